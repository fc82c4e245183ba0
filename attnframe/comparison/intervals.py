"""Means over seeds with Student's t intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

LEVEL = 0.95
"""The confidence of every interval."""


@dataclass(frozen=True)
class Estimate:
    """The mean of `count` of a group's `seeds` runs, those that have the number, and half the width of its interval.

    `half_width` is None for fewer than two numbers.
    """

    mean: float
    half_width: float | None
    count: int
    seeds: int

    @property
    def low(self) -> float | None:
        """The lower end of the interval."""
        return None if self.half_width is None else self.mean - self.half_width

    @property
    def high(self) -> float | None:
        """The upper end of the interval."""
        return None if self.half_width is None else self.mean + self.half_width


def estimate(values: Sequence[float | None]) -> Estimate | None:
    """The mean over those runs that have a number, one entry in `values` for each run; None where no run has one."""
    numbers = [value for value in values if value is not None and math.isfinite(value)]
    if not numbers:
        return None
    mean, half_width = mean_and_half_width(np.array(numbers)[:, None])
    return Estimate(float(mean[0]), float(half_width[0]) if half_width is not None else None, len(numbers), len(values))


def mean_and_half_width(rows: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Of rows [runs, points] the mean at each point and half the width of its interval, None for one run.

    The interval is mean ± t·s/√n, with s the standard deviation between runs (n - 1 in its denominator) and t the
    quantile of Student's distribution with n - 1 degrees of freedom.
    """
    numbers = np.asarray(rows, dtype=np.float64)
    runs = len(numbers)
    mean = numbers.mean(axis=0)
    if runs < 2:
        return mean, None
    return mean, t_quantile(runs - 1) * numbers.std(axis=0, ddof=1) / math.sqrt(runs)


def t_quantile(degrees_of_freedom: float) -> float:
    """The t that a variable of Student's distribution stays below with a probability of (1 + LEVEL) / 2."""
    return float(stdtrit(degrees_of_freedom, (1 + LEVEL) / 2))
