"""What the variants have in common that put another function in the place of the softmax."""

from __future__ import annotations

from collections.abc import Callable

import torch
from agreement import BATCH, FP32, MASKS, TOKENS, assert_same, dense
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, merge_heads, record_patterns, split_heads

D_MODEL, HEADS, D_CONTEXT = 22, 2, 13

TOLERANCES = {torch.float32: FP32, torch.float64: {"rtol": 0.0, "atol": 1e-10}}
"""In each dtype in which a variant is compared with the published function."""


def require_published(
    build: Callable[..., Attention],
    variant: str,
    published: Callable[[Tensor], Tensor],
    *,
    mask_name: str,
    dtype: torch.dtype,
) -> None:
    """`variant` is its projections around `published`, of scores that are -inf where a query may not attend."""
    module = build(variant, d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT, dtype=dtype)
    mask = MASKS[mask_name]

    def expected(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        q, k, v = (
            split_heads(projection(x), HEADS)
            for projection, x in ((module.query_proj, query), (module.key_proj, key), (module.value_proj, value))
        )
        scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~dense(mask), -torch.inf)
        return module.output_proj(merge_heads(published(scores) @ v))

    inputs = [torch.randn(BATCH, TOKENS, width, dtype=dtype) for width in (D_MODEL, D_CONTEXT, D_CONTEXT)]
    assert_same(lambda *x: module(*x, mask), expected, inputs, **TOLERANCES[dtype])


def weights_of(
    build: Callable[..., Attention], variant: str, scores: list[float], dtype: torch.dtype = torch.float64
) -> Tensor:
    """What one query makes of these scores: the keys are numbers, and the query is 1."""
    module = build(variant, d_model=1, num_heads=1, bias=False, dtype=dtype)
    for parameter in module.parameters():
        torch.nn.init.ones_(parameter)
    keys = torch.tensor(scores, dtype=dtype)[None, :, None]
    with record_patterns(module) as recorded:
        module(torch.ones(1, 1, 1, dtype=dtype), keys, keys)
    assert recorded["", 0].kind == "probability"
    return recorded["", 0].weights[0, 0, 0].double()


def require_weights(
    build: Callable[..., Attention], variant: str, scores: list[float], expected: list[float], dtype: torch.dtype
) -> None:
    """Those worked out by hand, with zeros that are exact, and nowhere else."""
    weights, wanted = weights_of(build, variant, scores, dtype), torch.tensor(expected, dtype=torch.float64)
    assert_close(weights, wanted, rtol=0.0, atol=1e-12 if dtype is torch.float64 else 1e-6)
    assert (weights[wanted == 0] == 0).all()
    assert (weights[wanted > 0] > 0).all()
