"""How time and memory grow with the length."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from attnframe.bench.figures import Measured, Row
from attnframe.bench.lines import Line

_Pass = Callable[[Row], Measured | None]
_Value = Callable[[Row], float | None]


@dataclass(frozen=True)
class Growth:
    """Exponents of a line: what it takes for one sequence is as length to this power, by least squares in log-log.

    Over the longer half of the lengths that were measured, for the short ones tell what a call costs at all; None where
    that leaves fewer than two. `shortest` and `longest` are the lengths between which `forward_seconds` was fitted.
    """

    line: Line
    backend: str
    shortest: int
    longest: int
    forward_seconds: float | None
    backward_seconds: float | None
    forward_bytes: float | None
    backward_bytes: float | None


def growths(rows: Sequence[Row]) -> list[Growth]:
    """Of each line in `rows` that was measured at two lengths or more, in their order."""
    found = []
    for line in dict.fromkeys(row.line for row in rows):
        own = [row for row in rows if row.line is line and row.forward is not None]
        fitted = _longer(sorted(row.length for row in own if row.length is not None))
        if len(fitted) < 2:
            continue
        found.append(
            Growth(
                line,
                own[0].backend,
                fitted[0],
                fitted[-1],
                forward_seconds=_exponent(own, _seconds(lambda row: row.forward)),
                backward_seconds=_exponent(own, _seconds(lambda row: row.backward)),
                forward_bytes=_exponent(own, _peak(lambda row: row.forward)),
                backward_bytes=_exponent(own, _peak(lambda row: row.backward)),
            )
        )
    return found


def exponent(lengths: Sequence[int], values: Sequence[float]) -> float | None:
    """The slope of log(value) over log(length) by least squares over the longer half of `lengths`.

    None with fewer than two different lengths there, and where a value has no logarithm.
    """
    longer = set(_longer(sorted(lengths)))
    points = [(n, value) for n, value in zip(lengths, values, strict=True) if n in longer]
    if len(longer) < 2 or any(value <= 0 for _, value in points):
        return None
    return statistics.linear_regression(
        [math.log(length) for length, _ in points], [math.log(value) for _, value in points]
    ).slope


def _longer(lengths: Sequence[int]) -> Sequence[int]:
    """The longer half of sorted `lengths`, at least three where there are."""
    return lengths[-max(3, math.ceil(len(lengths) / 2)) :]


def _seconds(of: _Pass) -> _Value:
    return lambda row: None if (measured := of(row)) is None else measured.seconds.median


def _peak(of: _Pass) -> _Value:
    return lambda row: None if (measured := of(row)) is None else measured.peak_bytes


def _exponent(rows: Sequence[Row], value: _Value) -> float | None:
    points = [
        (row.length, found / row.batch)
        for row in rows
        if row.length and row.batch and (found := value(row)) is not None
    ]
    return exponent([length for length, _ in points], [found for _, found in points]) if points else None
