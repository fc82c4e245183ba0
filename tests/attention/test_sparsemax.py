"""Sparsemax: the nearest point of the simplex, with exact zeros."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from agreement import MASKS, TOKENS
from normaliser_checks import TOLERANCES, require_published, require_weights, weights_of
from oracles import oracle

from attnframe import Attention


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("mask_name", MASKS)
def test_equals_the_published_function(mask_name: str, dtype: torch.dtype, build: Callable[..., Attention]) -> None:
    published = oracle("entmax").sparsemax
    require_published(build, "sparsemax", lambda scores: published(scores, dim=-1), mask_name=mask_name, dtype=dtype)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        # The difference of two scores below 1 moves their halves by half of it.
        ([0.0, 0.5], [0.25, 0.75]),
        ([0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.25, 0.25]),
        # From a difference of 1 on everything goes to the higher one.
        ([2.0, 1.0], [1.0, 0.0]),
        ([-7.0, 3.0, 0.0], [0.0, 1.0, 0.0]),
        # τ = (1 + 0.5 - 1) / 2 = 0.25 leaves out 0.25 itself and what is below.
        ([0.25, 1.0, -4.0, 0.5], [0.0, 0.75, 0.0, 0.25]),
        ([30000.0, -30000.0, 30000.0], [0.5, 0.0, 0.5]),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_by_hand(
    scores: list[float], expected: list[float], dtype: torch.dtype, build: Callable[..., Attention]
) -> None:
    require_weights(build, "sparsemax", scores, expected, dtype)


def test_is_the_nearest_point_of_the_simplex(build: Callable[..., Attention]) -> None:
    scores = torch.randn(TOKENS, dtype=torch.float64)
    nearest = (weights_of(build, "sparsemax", scores.tolist()) - scores).norm()
    others = torch.distributions.Dirichlet(torch.full((TOKENS,), 0.3, dtype=torch.float64)).sample((1000,))
    assert (nearest < (others - scores).norm(dim=-1)).all()
