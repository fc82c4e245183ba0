"""The folder of one run: written by one process at a time, and closed by exactly one marker."""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import math
import os
import re
import secrets
import socket
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attnframe.errors import UserError
from attnframe.runs.locking import locked

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
        self.next_best_checkpoint = self.checkpoints / "next_best.ckpt"
        self.metrics = path / "metrics.csv"
        self.manifest = path / "manifest.json"
        self.head_log = self.patterns / "heads.csv"
        self.report = path / "report.html"

    def claim(self) -> None:
        """Make the folder ours. Raises `UserError` when a run lives there already, whatever became of it."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self.manifest.open("x").close()
        except FileExistsError:
            raise UserError(f"{self.path} already holds a run: choose another hydra.run.dir") from None
        self.checkpoints.mkdir(exist_ok=True)

    @contextmanager
    def held(self, *, waiting: bool = False) -> Iterator[None]:
        """Keep every other process from running in the folder; the system lets go however this process ends.

        When another one holds it, raises `UserError` or, `waiting`, comes back once that has ended. Where the platform
        or the file system knows no locks, there is none.
        """
        with (self.path / ".lock").open("a+", encoding="utf-8") as file, contextlib.ExitStack() as stack:
            try:
                stack.enter_context(locked(file, waiting=waiting))
            except BlockingIOError:
                file.seek(0)
                raise UserError(f"{self.path} is still being run by {file.read() or 'another process'}") from None
            file.truncate(0)
            file.write(f"process {os.getpid()} on {socket.gethostname()}")
            file.flush()
            yield

    @property
    def markers(self) -> list[str]:
        """The markers that are there: one when the run has ended, none when it is running or was killed."""
        return [marker for marker in MARKERS if (self.path / marker).exists()]

    @property
    def has_begun(self) -> bool:
        """Whether a run has come as far as to say in its manifest what it is; one that was only claimed has not."""
        return self.manifest.exists() and self.manifest.stat().st_size > 0

    @property
    def last_error(self) -> str:
        """What error.txt says in the end, on one line; "" where there is none."""
        try:
            text = (self.path / "error.txt").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""
        # The frames of a traceback are indented; a message may have several lines.
        message = re.split(r"^(?:\s+\S|Traceback\b).*\n", text, flags=re.MULTILINE)[-1]
        return " ".join(message.split())

    def reopen(self) -> None:
        """Take back how the run ended: it goes on. What error.txt said stays in errors_before.txt."""
        error = self.path / "error.txt"
        if error.exists():
            with (self.path / "errors_before.txt").open("a", encoding="utf-8") as file:
                file.write(error.read_text(encoding="utf-8", errors="replace"))
        for name in (*MARKERS, error.name):
            (self.path / name).unlink(missing_ok=True)

    def read_results(self) -> dict[str, Any]:
        """The flat results.json. Raises `UserError` where it is missing or damaged."""
        file = self.path / "results.json"
        try:
            results: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{file} cannot be read: {error}") from error
        return results

    def write_manifest(self, manifest: Mapping[str, Any]) -> None:
        """What ran: versions, data, parameters, backends."""
        self.write_json("manifest.json", manifest)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """A JSON file that is there in full or not at all. NaN and infinity, which JSON lacks, become null."""
        text = json.dumps(_json_able(content), indent=2, ensure_ascii=False, allow_nan=False)
        write_whole(self.path / name, text + "\n")

    def write_table(self, name: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        """A tab-separated file with a header row; tabs and line breaks inside a field become spaces."""
        partial = self.path / f".{name}.partial"
        with partial.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE, quotechar=None)
            writer.writerow(header)
            writer.writerows([" ".join(field.split()) for field in row] for row in rows)
        partial.replace(self.path / name)

    def keep_lines(self, name: str, count: int) -> int:
        """Cut a text file after its first `count` lines; how many it now has."""
        with (self.path / name).open(encoding="utf-8", newline="") as file:
            lines = file.readlines()[:count]
        write_whole(self.path / name, "".join(lines))
        return len(lines)

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


def write_whole(file: Path, text: str) -> None:
    """Write a text file that is there in full or as it was before; line ends stay as they are in `text`.

    What is no regular file, such as a device or a pipe, is written into; a link stays, and its target is written.
    """
    if file.exists() and not file.is_file():
        with file.open("w", encoding="utf-8", newline="") as opened:
            opened.write(text)
        return
    file = Path(os.path.realpath(file))
    # Another process may be writing the same file.
    partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}.partial")
    try:
        partial.write_text(text, encoding="utf-8", newline="")
        partial.replace(file)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _json_able(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json_able(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_able(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
