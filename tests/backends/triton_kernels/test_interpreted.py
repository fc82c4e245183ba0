"""The kernels against the formula in float64, in Triton's interpreter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import scipy.stats
import torch
from kernel_cases import CASES, DTYPES, POINTS, inputs, scale_of
from kernel_errors import MISSED, allowed, complaints, formula
from numpy.testing import assert_allclose

HERE = Path(__file__).parent
FAST = [point for point in POINTS if CASES[point[0]].fast and (point[1] == "float32" or point[0] == "holes")]
SLOW = [point for point in POINTS if point not in FAST]
# Strict: what no longer misses its limit fails here.
MISSES = {
    point: [pytest.mark.xfail(reason=f"{quantity}: {why}", strict=True)] for point, (quantity, why) in MISSED.items()
}


def interpreted(script: str, *arguments: str, given: str = "") -> str:
    """What the script of this folder prints, when kernels run in the interpreter."""
    command = [sys.executable, "-W", "error", str(HERE / script), *arguments]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, input=given, capture_output=True, text=True, env=environment, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


Measured = dict[tuple[str, str], dict[str, Any]]


def measured(points: list[tuple[str, str]]) -> Measured:
    found = json.loads(interpreted("measure_kernels.py", "cpu", given=json.dumps(points)))
    return dict(zip(points, found, strict=True))


# One process for all of a part: each takes seconds to start.
@pytest.fixture(scope="module")
def fast() -> Measured:
    return measured(FAST)


@pytest.fixture(scope="module")
def slow() -> Measured:
    return measured(SLOW)


@pytest.mark.parametrize(("name", "dtype"), FAST)
def test_kernels_are_the_formula(name: str, dtype: str, fast: Measured) -> None:
    assert complaints(CASES[name], dtype, fast[name, dtype]) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "dtype"),
    [pytest.param(*point, marks=MISSES.get(point, [])) for point in SLOW],
)
def test_kernels_are_the_formula_everywhere(name: str, dtype: str, slow: Measured) -> None:
    assert complaints(CASES[name], dtype, slow[name, dtype]) == []


@pytest.mark.parametrize("name", [name for name, dtype in FAST if dtype == "float32" and CASES[name].keys])
def test_statistics_are_those_of_scipy_and_torch(name: str, fast: Measured) -> None:
    case = CASES[name]
    tensors = inputs(case, torch.float32, torch.device("cpu"))
    weights = formula(case, *tensors)["weights"].detach().numpy()
    blind = ~allowed(case).any(-1).expand(-1, case.heads, -1).numpy()
    found = fast[name, "float32"]["statistics"]
    entropy, lse, greatest = (
        torch.tensor(found[of], dtype=torch.float64).reshape(blind.shape).numpy()
        for of in ("entropy", "lse", "max_score")
    )
    assert_allclose(entropy[blind], 0.0, rtol=0, atol=0)
    assert_allclose(entropy[~blind], scipy.stats.entropy(weights[~blind], axis=-1), rtol=0, atol=1e-5)
    q, k, _ = (x.detach().double() for x in tensors)
    scores = (q @ k.repeat_interleave(case.heads // case.key_heads, 1).mT * scale_of(case)).masked_fill(
        ~allowed(case), -torch.inf
    )
    # Relative for scores in the thousands, whose last place is above 1e-5.
    assert_allclose(lse, torch.logsumexp(scores, -1).numpy(), rtol=4 * 2.0**-24, atol=1e-5)
    assert_allclose(greatest, scores.amax(-1).numpy(), rtol=4 * 2.0**-24, atol=1e-5)


def test_there_are_many_points_and_each_dtype_is_among_the_fast_ones() -> None:
    assert len(POINTS) == len(set(POINTS)) >= 150
    assert {dtype for _, dtype in FAST} == set(DTYPES)
