"""The folder of one run: claimed by exactly one process, and closed by exactly one marker."""

from __future__ import annotations

import csv
import json
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attnframe.errors import UserError

_log = logging.getLogger(__name__)

MARKERS = ("DONE", "INTERRUPTED", "FAILED")


class RunFolder:
    """Paths in a run folder and the writing of its small files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.patterns = path / "patterns"
        self.last_checkpoint = self.checkpoints / "last.ckpt"
        self.best_checkpoint = self.checkpoints / "best.ckpt"
        self.metrics = path / "metrics.csv"
        self.manifest = path / "manifest.json"

    def claim(self) -> None:
        """Make the folder ours. Raises `UserError` when a run lives there already, whatever became of it."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self.manifest.open("x").close()
        except FileExistsError:
            raise UserError(f"{self.path} already holds a run: choose another hydra.run.dir") from None
        self.checkpoints.mkdir(exist_ok=True)

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """What ran: versions, data, parameters, backends."""
        self.write_json("manifest.json", manifest)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """A JSON file that is there in full or not at all. NaN and infinity, which JSON lacks, become null."""
        partial = self.path / f".{name}.partial"
        text = json.dumps(_json_able(content), indent=2, ensure_ascii=False, allow_nan=False)
        partial.write_text(text + "\n", encoding="utf-8")
        partial.replace(self.path / name)

    def write_table(self, name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A tab-separated file with a header row; tabs and line breaks inside a field become spaces."""
        with (self.path / name).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
            writer.writerow(header)
            writer.writerows([" ".join(field.split()) for field in row] for row in rows)

    def close(self, marker: str, text: str = "") -> None:
        """Write the marker file, the last one of a run; `text` goes to error.txt first."""
        try:
            if text:
                (self.path / "error.txt").write_text(text, encoding="utf-8")
        except OSError as error:
            # A full disk may be the very failure to report; an empty marker still fits.
            _log.error("error.txt could not be written (%s): %s", error, text)
        finally:
            (self.path / marker).touch()


def _json_able(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json_able(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_able(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
