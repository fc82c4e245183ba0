"""t intervals against scipy.stats."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from attnframe.comparison.intervals import estimate, mean_and_half_width, t_quantile


@pytest.mark.parametrize("runs", [2, 3, 7])
def test_an_interval_is_that_of_student(runs: int) -> None:
    values = np.random.default_rng(runs).normal(0.8, 0.03, runs)
    found = estimate(values.tolist())
    assert found is not None
    low, high = stats.t.interval(0.95, runs - 1, loc=values.mean(), scale=stats.sem(values))
    assert (found.mean, found.low, found.high) == pytest.approx((values.mean(), low, high), rel=1e-12)
    assert (found.count, found.seeds) == (runs, runs)


def test_one_run_has_no_interval() -> None:
    found = estimate([0.5])
    assert found is not None
    assert (found.mean, found.half_width, found.low, found.high) == (0.5, None, None, None)


def test_runs_without_the_number_are_counted_and_not_averaged() -> None:
    found = estimate([1.0, None, 2.0, math.nan])
    assert found is not None
    assert (found.mean, found.count, found.seeds) == (1.5, 2, 4)
    assert estimate([None, None]) is None


def test_every_point_of_a_curve_has_its_own_interval() -> None:
    rows = np.random.default_rng(5).normal(size=(3, 11))
    mean, half_width = mean_and_half_width(rows)
    assert half_width is not None
    for point in range(11):
        low, high = stats.t.interval(0.95, 2, loc=rows[:, point].mean(), scale=stats.sem(rows[:, point]))
        assert (mean[point] - half_width[point], mean[point] + half_width[point]) == pytest.approx((low, high))


@pytest.mark.parametrize("freedom", [1, 2.37, 40])
def test_degrees_of_freedom_may_be_fractions(freedom: float) -> None:
    assert t_quantile(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), rel=1e-10)
