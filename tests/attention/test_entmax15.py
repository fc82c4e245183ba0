"""Entmax with α = 1.5: half way from softmax to sparsemax, with exact zeros."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from agreement import MASKS, TOKENS
from normaliser_checks import TOLERANCES, require_published, require_weights, weights_of
from oracles import oracle
from torch import Tensor

from attnframe import Attention


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("mask_name", MASKS)
def test_equals_the_published_function(mask_name: str, dtype: torch.dtype, build: Callable[..., Attention]) -> None:
    published = oracle("entmax").entmax15
    require_published(build, "entmax15", lambda scores: published(scores, dim=-1), mask_name=mask_name, dtype=dtype)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        # Roots of weights differ by half of what the scores do: 3/4 and seven times 1/4.
        ([0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0], [1 / 16, 1 / 16, 9 / 16, 1 / 16, 1 / 16, 1 / 16, 1 / 16, 1 / 16]),
        ([0.5, 0.5, 0.5, 0.5], [0.25, 0.25, 0.25, 0.25]),
        # From a difference of 2 on everything goes to the higher one.
        ([3.0, 1.0], [1.0, 0.0]),
        ([-7.0, 3.0, 0.0], [0.0, 1.0, 0.0]),
        # Roots 1/2, 1/2, 1/2 and four times 1/4; that of -0.75 would be below 0.
        ([0.5, 0.0, 0.5, -0.75, 0.5, 0.0, 0.0, 0.0], [0.25, 1 / 16, 0.25, 0.0, 0.25, 1 / 16, 1 / 16, 1 / 16]),
        ([30000.0, -30000.0, 30000.0], [0.5, 0.0, 0.5]),
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_by_hand(
    scores: list[float], expected: list[float], dtype: torch.dtype, build: Callable[..., Attention]
) -> None:
    require_weights(build, "entmax15", scores, expected, dtype)


def test_maximises_the_regularised_score(build: Callable[..., Attention]) -> None:
    """p·s + H(p) with the Tsallis entropy H(p) = (Σp - Σp^1.5) / (1.5·0.5), which defines it."""

    def objective(p: Tensor) -> Tensor:
        return (p * scores).sum(-1) + (p - p**1.5).sum(-1) / (1.5 * 0.5)

    scores = torch.randn(TOKENS, dtype=torch.float64)
    best = objective(weights_of(build, "entmax15", scores.tolist()))
    others = torch.distributions.Dirichlet(torch.full((TOKENS,), 0.3, dtype=torch.float64)).sample((1000,))
    assert (best > objective(others)).all()


def test_lies_between_softmax_and_sparsemax(build: Callable[..., Attention]) -> None:
    scores = [1.0, 0.0, -0.5]
    weights = weights_of(build, "entmax15", scores)
    # Sparsemax gives the second key nothing, for it is 1 below; the softmax gives even the third one more than a tenth.
    assert weights[1] > 0
    assert weights[2] < torch.tensor(scores).softmax(0)[2]
