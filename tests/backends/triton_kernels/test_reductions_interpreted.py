"""The kernels that sum a pattern up against sums over the formula's pattern, in Triton's interpreter."""

from __future__ import annotations

import json
from typing import Any

import pytest
from kernel_cases import CASES
from reduction_errors import complaints
from test_interpreted import interpreted

FAST = [("plain", "float32"), ("holes", "bfloat16"), ("window out of sight", "float32")]
HALF = ("plain", "holes, window", "window, causal", "scores of 60", "scores of 1e4", "widths 3 and 5")
# These kernels change no score, so the cases that do are not for them. Those of 1024 take a third of the time, and have
# no other kind of tile than those of 512.
NAMES = [
    name
    for name, case in CASES.items()
    if case.queries < 1000 and not any(vars(case).get(change) for change in ("softcap", "slopes", "key_bias"))
]
SLOW = [
    *((name, "float32") for name in NAMES if (name, "float32") not in FAST),
    *((name, dtype) for dtype in ("float16", "bfloat16") for name in HALF if (name, dtype) not in FAST),
]

Measured = dict[tuple[str, str], dict[str, Any]]


def measured(points: list[tuple[str, str]]) -> Measured:
    found = json.loads(interpreted("measure_reductions.py", "cpu", given=json.dumps(points)))
    return dict(zip(points, found, strict=True))


# One process for all of a part: each takes seconds to start.
@pytest.fixture(scope="module")
def fast() -> Measured:
    return measured(FAST)


@pytest.fixture(scope="module")
def slow() -> Measured:
    return measured(SLOW)


@pytest.mark.parametrize(("name", "dtype"), FAST)
def test_sums_are_those_of_the_pattern(name: str, dtype: str, fast: Measured) -> None:
    assert complaints(CASES[name], dtype, fast[name, dtype]) == []


@pytest.mark.slow
@pytest.mark.parametrize(("name", "dtype"), SLOW)
def test_sums_are_those_of_the_pattern_everywhere(name: str, dtype: str, slow: Measured) -> None:
    assert complaints(CASES[name], dtype, slow[name, dtype]) == []
