"""What a run has measured, step by step: `metrics.csv` and `patterns/heads.csv` read back."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from attnframe.runs.folder import RunFolder

Head = tuple[str, int, int]
"""(site, layer, head), both from 0."""


def validations(folder: RunFolder, problems: list[str] | None = None) -> dict[str, dict[int, float]]:
    """The columns `val/...` of metrics.csv that hold anything: a number for each validated step.

    A damaged file is read as far as it can be, and said in `problems` where that is given.
    """
    history: dict[str, dict[int, float]] = {}
    for row in _rows(folder, folder.metrics, problems):
        for name, value in row.items():
            if name.startswith("val/"):
                _note(history.setdefault(name, {}), row["step"], value)
    return {name: values for name, values in history.items() if values}


def head_log(folder: RunFolder, problems: list[str] | None = None) -> dict[Head, dict[str, dict[int, float]]]:
    """By head the numbers of patterns/heads.csv by name, and of each a number for each step.

    A damaged file is read as far as it can be, and said in `problems` where that is given.
    """
    history: dict[Head, dict[str, dict[int, float]]] = {}
    for row in _rows(folder, folder.head_log, problems):
        site, layer, head = (row.pop(name, "") for name in ("site", "layer", "head"))
        if layer.isdecimal() and head.isdecimal():
            columns = history.setdefault((site, int(layer), int(head)), {})
            for name, value in row.items():
                if name not in ("step", "kind"):
                    _note(columns.setdefault(name, {}), row["step"], value)
    return {head: {name: values for name, values in columns.items() if values} for head, columns in history.items()}


def _rows(folder: RunFolder, file: Path, problems: list[str] | None) -> Iterator[dict[str, str]]:
    """Whole rows with a step. A file that is not there has none; the last row of a run that goes on may be half."""
    try:
        with file.open(encoding="utf-8", errors="replace", newline="") as opened:
            for row in csv.DictReader(opened):
                if None not in row and None not in row.values() and row.get("step", "").isdecimal():
                    yield row
    except FileNotFoundError:
        return
    except (OSError, csv.Error):
        if problems is not None:
            problems.append(f"{file.relative_to(folder.path)} is damaged")


def _note(values: dict[int, float], step: str, value: str) -> None:
    with suppress(ValueError):
        values[int(step)] = float(value)
