"""How far a job is, as its folder tells anybody who can read it."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

from attnframe.sweeps.sweep_folder import marker_of

# More than a row and the row before it ever take.
_TAIL_BYTES = 4096


@dataclass(frozen=True)
class Progress:
    """`state` is "waiting", "running", "done", "failed" or "stopped"; the others are of the last row of metrics.csv."""

    state: str
    step: int = 0
    seconds: float = 0.0
    val_loss: float | None = None


_STATES = {"DONE": "done", "FAILED": "failed", "INTERRUPTED": "stopped"}


def progress_of(folder: Path) -> Progress:
    """How far the run in `folder` is."""
    state = _STATES.get(marker_of(folder), "")
    try:
        rows = _last_rows(folder / "metrics.csv")
        losses = [float(row["val/loss"]) for row in rows if row["val/loss"]]
        if rows:
            last = rows[-1]
            step, seconds = int(last["step"]), float(last["seconds"])
            return Progress(state or "running", step, seconds, losses[-1] if losses else None)
    except (OSError, ValueError, KeyError):
        # A table that is not there yet or damaged tells nothing.
        pass
    return Progress(state or "waiting")


def _last_rows(file: Path) -> list[dict[str, str]]:
    """The last whole rows of a table that is being written."""
    with file.open("rb") as opened:
        header = opened.readline().decode()
        start = opened.tell()
        opened.seek(max(start, os.fstat(opened.fileno()).st_size - _TAIL_BYTES))
        cut = opened.tell() > start
        lines = opened.read().decode(errors="replace").splitlines(keepends=True)[cut:]
    columns = header.strip().split(",")
    whole = [line for line in lines if line.endswith("\n")]
    return [row for row in csv.DictReader(whole, columns) if None not in row and None not in row.values()]
