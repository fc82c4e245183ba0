"""The folder of a sweep: which job lives in which run folder, and the results of all in one file."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attnframe.errors import UserError
from attnframe.runs.folder import RunFolder, write_whole
from attnframe.runs.locking import locked
from attnframe.sweeps.identity import Identity

JOB_FILE = "job.json"
RESULTS_FILE = "results.jsonl"

_LONGEST_LABEL = 80
_KEY_LENGTH = 10


@dataclass(frozen=True)
class JobRecord:
    """What a job's folder says of it: its identity, and the overrides that it was first asked for by."""

    identity: Identity
    overrides: tuple[str, ...]

    def write(self, folder: Path) -> None:
        """Leave `job.json` in the job's folder."""
        # Where the sweep is and who launches it is no part of the job.
        own = [item for item in self.overrides if not item.startswith(("sweep=", "hydra.", "hydra/", "launcher="))]
        content = {**asdict(self.identity), "identity": self.identity.key, "overrides": own}
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / JOB_FILE, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> JobRecord | None:
        """The record in a folder, None where there is none that can be read."""
        try:
            content = json.loads((folder / JOB_FILE).read_text(encoding="utf-8"))
            parts = {name: content[name] for name in ("config", "data", "version", "sources")}
            return cls(Identity(**parts), tuple(content["overrides"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None


class SweepFolder:
    """A folder with a run folder for each job, and `results.jsonl`: a line for each job that is done, only ever added.

    Several processes, on several machines with one file system, may use it at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.results_file = path / RESULTS_FILE

    def folder_of(self, identity: Identity, name: str) -> Path:
        """Where the job with this identity is, or will be under `name`."""
        key = identity.key[:_KEY_LENGTH]
        for found in sorted(self.path.glob(f"*_{key}")):
            record = JobRecord.read(found)
            # A damaged record makes no other job: the folder's name still says which one it is.
            if record is None or record.identity.key == identity.key:
                return found
        label = re.sub(r"[^\w.\-]+", "_", name.replace("=", "-")).strip("_.")
        return self.path / "_".join(filter(None, [label[:_LONGEST_LABEL], key]))

    def others_with_config(self, identity: Identity) -> list[tuple[Path, Identity]]:
        """Jobs of the same config whose code or data was another one."""
        found = []
        for file in sorted(self.path.glob(f"*/{JOB_FILE}")):
            record = JobRecord.read(file.parent)
            if record is not None and record.identity.config == identity.config and record.identity != identity:
                found.append((file.parent, record.identity))
        return found

    def record(self, job: Path) -> None:
        """Add the line of the job in the folder `job`, which is done; once. A folder without `job.json` is no job."""
        record = JobRecord.read(job)
        if record is None:
            return
        line = {
            "identity": record.identity.key,
            "folder": job.name,
            "overrides": list(record.overrides),
            **RunFolder(job).read_results(),
        }
        self.path.mkdir(parents=True, exist_ok=True)
        # What is damaged in it is no line of any job; it stays as it is.
        with self.results_file.open("a+", encoding="utf-8", errors="replace") as file, locked(file):
            file.seek(0)
            text = file.read()
            if record.identity.key in (known["identity"] for known in _lines(text)):
                return
            # A process that was killed while it wrote leaves half a line, which must not swallow the next one.
            start = "\n" if text and not text.endswith("\n") else ""
            file.write(f"{start}{json.dumps(line, ensure_ascii=False)}\n")

    def results(self) -> dict[str, dict[str, Any]]:
        """By identity what `results.jsonl` says of each job."""
        try:
            text = self.results_file.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.results_file} cannot be read: {error}") from error
        return {line["identity"]: line for line in _lines(text)}


def marker_of(folder: Path) -> str:
    """How the run in a folder has ended: DONE, INTERRUPTED or FAILED; "" when it runs, was killed or never began."""
    markers = RunFolder(folder).markers
    return markers[0] if markers else ""


def _lines(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            content = json.loads(line)
            if isinstance(content, dict) and "identity" in content:
                yield content
