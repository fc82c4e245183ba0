"""Entmax with α = 1.5: half way from softmax to sparsemax, with exact zeros."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from agreement import BATCH, FP32, MASKS, TOKENS, assert_same, dense
from oracles import oracle
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, Mask, merge_heads, record_patterns, split_heads

D_MODEL, HEADS, D_CONTEXT = 22, 2, 13


def _published(module: Attention, mask: Mask, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The module's projections around the published function, with scores of -inf where a query may not attend."""
    q, k, v = (
        split_heads(projection(x), HEADS)
        for projection, x in ((module.query_proj, query), (module.key_proj, key), (module.value_proj, value))
    )
    scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~dense(mask), -torch.inf)
    return module.output_proj(merge_heads(oracle("entmax").entmax15(scores, dim=-1) @ v))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, FP32), (torch.float64, {"rtol": 0.0, "atol": 1e-10})], ids=str
)
@pytest.mark.parametrize("mask_name", MASKS)
def test_equals_the_published_function(
    mask_name: str, dtype: torch.dtype, tolerance: dict[str, float], build: Callable[..., Attention]
) -> None:
    module = build("entmax15", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT, dtype=dtype)
    mask = MASKS[mask_name]
    inputs = [torch.randn(BATCH, TOKENS, width, dtype=dtype) for width in (D_MODEL, D_CONTEXT, D_CONTEXT)]
    assert_same(lambda *x: module(*x, mask), lambda *x: _published(module, mask, *x), inputs, **tolerance)


def _weights(build: Callable[..., Attention], scores: list[float], dtype: torch.dtype = torch.float64) -> Tensor:
    """What one query makes of these scores: the keys are numbers, and the query is 1."""
    module = build("entmax15", d_model=1, num_heads=1, bias=False, dtype=dtype)
    for parameter in module.parameters():
        torch.nn.init.ones_(parameter)
    keys = torch.tensor(scores, dtype=dtype)[None, :, None]
    with record_patterns(module) as recorded:
        module(torch.ones(1, 1, 1, dtype=dtype), keys, keys)
    assert recorded["", 0].kind == "probability"
    return recorded["", 0].weights[0, 0, 0].double()


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
    weights, wanted = _weights(build, scores, dtype), torch.tensor(expected, dtype=torch.float64)
    assert_close(weights, wanted, rtol=0.0, atol=1e-12 if dtype is torch.float64 else 1e-6)
    assert (weights[wanted == 0] == 0).all()
    assert (weights[wanted > 0] > 0).all()


def test_maximises_the_regularised_score(build: Callable[..., Attention]) -> None:
    """p·s + H(p) with the Tsallis entropy H(p) = (Σp - Σp^1.5) / (1.5·0.5), which defines it."""

    def objective(p: Tensor) -> Tensor:
        return (p * scores).sum(-1) + (p - p**1.5).sum(-1) / (1.5 * 0.5)

    scores = torch.randn(TOKENS, dtype=torch.float64)
    best = objective(_weights(build, scores.tolist()))
    others = torch.distributions.Dirichlet(torch.full((TOKENS,), 0.3, dtype=torch.float64)).sample((1000,))
    assert (best > objective(others)).all()


def test_lies_between_softmax_and_entmax15(build: Callable[..., Attention]) -> None:
    scores = [1.0, 0.0, -0.5]
    weights = _weights(build, scores)
    # Sparsemax gives the second key nothing, for it is 1 below; the softmax gives even the third one more than a tenth.
    assert weights[1] > 0
    assert weights[2] < torch.tensor(scores).softmax(0)[2]
