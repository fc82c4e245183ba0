"""Learning curves: what a group's runs measured while they trained, over steps, seconds and FLOPs, with bands."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from attnframe.comparison.grouping import Group
from attnframe.comparison.intervals import mean_and_half_width
from attnframe.comparison.page import PageCurve
from attnframe.comparison.run_records import RunRecord
from attnframe.runs.folder import RunFolder

METRICS = ("val/loss", "val/exact_match", "val/bleu", "val/aer", "train/loss")
_POINTS = 100

Line = tuple[NDArray[np.float64], NDArray[np.float64]]
"""The places on an axis, rising, and what was measured there."""


def learning_curves(groups: Sequence[Group]) -> list[PageCurve]:
    """A curve of each group, metric and axis that there is something of.

    Runs are interpolated to the places that all of them reach: their own where these are the same and not too many,
    else a hundred in even steps. The band is the t interval over seeds, of two runs or more. FLOPs are steps times what
    a step of the run took on average, where that is known.
    """
    curves = []
    for group in groups:
        lines = [_lines(run) for run in group.runs]
        for metric in METRICS:
            for axis in ("step", "seconds", "flops"):
                of_runs = [line for one in lines if (line := one.get((metric, axis))) is not None]
                # A band of some of the runs would be called that of all.
                if lines and len(of_runs) == len(lines) and (curve := _curve(group.name, metric, axis, of_runs)):
                    curves.append(curve)
    return curves


def _curve(group: str, metric: str, axis: str, lines: Sequence[Line]) -> PageCurve | None:
    first = lines[0][0]
    if len(first) <= 2 * _POINTS and all(len(places) == len(first) and (places == first).all() for places, _ in lines):
        grid, rows = first, [values for _, values in lines]
    else:
        begin, end = max(places[0] for places, _ in lines), min(places[-1] for places, _ in lines)
        if begin > end:
            return None
        grid = np.linspace(begin, end, _POINTS)
        rows = [np.interp(grid, places, values) for places, values in lines]
    mean, half_width = mean_and_half_width(np.array(rows))
    low = high = None
    if half_width is not None:
        low, high = (mean - half_width).tolist(), (mean + half_width).tolist()
    return PageCurve(group, metric, axis, grid.tolist(), mean.tolist(), low, high)


def _lines(run: RunRecord) -> Mapping[tuple[str, str], Line]:
    """What metrics.csv holds, by metric and axis."""
    rows: dict[str, list[tuple[float, float, float]]] = {metric: [] for metric in METRICS}
    with (
        suppress(OSError, csv.Error),
        RunFolder(run.path).metrics.open(encoding="utf-8", errors="replace", newline="") as opened,
    ):
        reader = csv.reader(opened)
        header = next(reader, [])
        columns = [(metric, header.index(metric)) for metric in METRICS if metric in header]
        if {"step", "seconds"} <= {*header}:
            step, seconds = header.index("step"), header.index("seconds")
            for row in reader:
                for metric, column in columns:
                    # A row that was cut off, or a cell without a number.
                    with suppress(ValueError, IndexError):
                        if row[column]:
                            rows[metric].append((float(row[step]), float(row[seconds]), float(row[column])))
    flops = _flops_per_step(run)
    lines = {}
    for metric, found in rows.items():
        if found:
            steps, times, values = np.array(found).T
            # A step that is validated twice counts as it was measured last.
            kept = np.append(np.diff(steps) > 0, True)
            lines[metric, "step"] = steps[kept], values[kept]
            lines[metric, "seconds"] = times[kept], values[kept]
            if flops is not None:
                lines[metric, "flops"] = flops * steps[kept], values[kept]
    return lines


def _flops_per_step(run: RunRecord) -> float | None:
    flops, tokens, steps = (run.number(f"train/{key}") for key in ("flops_per_token", "target_tokens", "steps"))
    return flops * tokens / steps if flops and tokens and steps else None
