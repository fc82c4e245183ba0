"""Sparsemax: the nearest point of the simplex, with exact zeros."""

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
    return module.output_proj(merge_heads(oracle("entmax").sparsemax(scores, dim=-1) @ v))


@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, FP32), (torch.float64, {"rtol": 0.0, "atol": 1e-10})], ids=str
)
@pytest.mark.parametrize("mask_name", MASKS)
def test_equals_the_published_function(
    mask_name: str, dtype: torch.dtype, tolerance: dict[str, float], build: Callable[..., Attention]
) -> None:
    module = build("sparsemax", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT, dtype=dtype)
    mask = MASKS[mask_name]
    inputs = [torch.randn(BATCH, TOKENS, width, dtype=dtype) for width in (D_MODEL, D_CONTEXT, D_CONTEXT)]
    assert_same(lambda *x: module(*x, mask), lambda *x: _published(module, mask, *x), inputs, **tolerance)


def _weights(build: Callable[..., Attention], scores: list[float], dtype: torch.dtype = torch.float64) -> Tensor:
    """What one query makes of these scores: the keys are numbers, and the query is 1."""
    module = build("sparsemax", d_model=1, num_heads=1, bias=False, dtype=dtype)
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
    weights, wanted = _weights(build, scores, dtype), torch.tensor(expected, dtype=torch.float64)
    assert_close(weights, wanted, rtol=0.0, atol=1e-12 if dtype is torch.float64 else 1e-6)
    assert (weights[wanted == 0] == 0).all()
    assert (weights[wanted > 0] > 0).all()


def test_is_the_nearest_point_of_the_simplex(build: Callable[..., Attention]) -> None:
    scores = torch.randn(TOKENS, dtype=torch.float64)
    nearest = (_weights(build, scores.tolist()) - scores).norm()
    others = torch.distributions.Dirichlet(torch.full((TOKENS,), 0.3, dtype=torch.float64)).sample((1000,))
    assert (nearest < (others - scores).norm(dim=-1)).all()
