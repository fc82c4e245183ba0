"""Holm's correction against a case by hand, and against its definition."""

from __future__ import annotations

import random

import pytest

from attnframe.comparison.multiple_testing import holm


def test_a_case_by_hand() -> None:
    # Sorted: 0.01·4, 0.02·3 = 0.06, 0.03·2 = 0.06, 0.04·1, which may not be below 0.06.
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])


def test_nothing_is_above_one_and_nothing_comes_of_nothing() -> None:
    assert holm([0.6, 0.7]) == [1.0, 1.0]
    assert holm([]) == []


def rejected_step_down(p_values: list[float], level: float) -> set[int]:
    """Holm's own procedure: from the smallest on, reject as long as p is at most level / (those that are left)."""
    left = sorted(range(len(p_values)), key=lambda index: p_values[index])
    rejected: set[int] = set()
    while left and p_values[left[0]] <= level / len(left):
        rejected.add(left.pop(0))
    return rejected


def test_an_adjusted_p_below_the_level_is_what_the_procedure_rejects() -> None:
    draw = random.Random(3)
    for _ in range(200):
        p_values = [draw.random() ** 3 for _ in range(7)]
        rejected = {index for index, p in enumerate(holm(p_values)) if p <= 0.05}
        assert rejected == rejected_step_down(p_values, 0.05)
