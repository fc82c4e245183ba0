"""ALiBi: by hand, and beside the attention of x-transformers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hf_weights import MASKS, mask_of, require_same
from oracles import oracle
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention, record_patterns

BATCH, QUERIES, KEYS, HEAD_DIM, HEADS = 3, 5, 11, 7, 4
D_MODEL = HEADS * HEAD_DIM


def theirs_of(ours: Attention, causal: bool, slopes: list[float] | None = None) -> Callable[..., Tensor]:
    """The attention of x-transformers with our weights, which must have no biases, and its own slopes unless given."""
    x_transformers = oracle("x_transformers.x_transformers")
    module = x_transformers.Attention(D_MODEL, dim_head=HEAD_DIM, heads=HEADS, causal=causal)
    rel_pos = x_transformers.AlibiPositionalBias(heads=HEADS, slopes=slopes)
    names = {"query_proj": "to_q", "key_proj": "to_k", "value_proj": "to_v", "output_proj": "to_out"}
    for our_name, their_name in names.items():
        getattr(module, their_name).load_state_dict(getattr(ours, our_name).state_dict())
    return lambda *inputs, **masks: module(*inputs, rel_pos=rel_pos, **masks)


@pytest.mark.parametrize("mask_kind", MASKS)
@pytest.mark.parametrize("slope_base", [8.0, 3.0])
def test_equals_x_transformers(slope_base: float, mask_kind: str, build: Callable[..., Attention]) -> None:
    ours = build("alibi", d_model=D_MODEL, num_heads=HEADS, bias=False, slope_base=slope_base, dtype=torch.float32)
    slopes = None if slope_base == 8.0 else [2 ** (-slope_base * head / HEADS) for head in range(1, HEADS + 1)]
    theirs = theirs_of(ours, MASKS[mask_kind][0], slopes)
    mask = mask_of(mask_kind, BATCH, KEYS)
    # What is padded is no query of theirs either.
    real = torch.ones(BATCH, KEYS, dtype=torch.bool) if mask.key_keep is None else mask.key_keep
    require_same(
        lambda x: ours(x, x, x, mask) * real[..., None],
        lambda x: theirs(x, mask=mask.key_keep) * real[..., None],
        batch=BATCH,
        length=KEYS,
        d_model=D_MODEL,
    )


def test_equals_x_transformers_with_other_keys(build: Callable[..., Attention]) -> None:
    """Theirs takes the last query for one at the last key."""
    ours = build("alibi", d_model=D_MODEL, num_heads=HEADS, bias=False, dtype=torch.float32)
    theirs = theirs_of(ours, causal=False)
    context = torch.randn(BATCH, KEYS, D_MODEL)
    mask = Mask(key_keep=mask_of("padding", BATCH, KEYS).key_keep, query_offset=KEYS - QUERIES)
    require_same(
        lambda x: ours(x, context, context, mask),
        lambda x: theirs(x, context, context_mask=mask.key_keep),
        batch=BATCH,
        length=QUERIES,
        d_model=D_MODEL,
    )


@pytest.mark.parametrize("slope_base", [8.0, 3.0])
@pytest.mark.parametrize("causal", [True, False])
def test_by_hand(slope_base: float, causal: bool, build: Callable[..., Attention], device: torch.device) -> None:
    d_context = 13
    module = build("alibi", d_model=D_MODEL, num_heads=HEADS, d_context=d_context, slope_base=slope_base)
    query = torch.randn(BATCH, QUERIES, D_MODEL, dtype=torch.float64, device=device)
    context = torch.randn(BATCH, KEYS, d_context, dtype=torch.float64, device=device)
    with record_patterns(module) as patterns:
        module(query, context, context, Mask(causal=causal, query_offset=1))
    q, k = module.query_proj(query), module.key_proj(context)
    for head in range(HEADS):
        part = slice(HEAD_DIM * head, HEAD_DIM * (head + 1))
        slope = 1 / 2 ** (slope_base * (head + 1) / HEADS)
        for i in range(QUERIES):
            seen = [j for j in range(KEYS) if not causal or j <= i + 1]
            scores = [q[:, i, part].mul(k[:, j, part]).sum(-1) / HEAD_DIM**0.5 - slope * abs(i + 1 - j) for j in seen]
            expected = torch.stack(scores, -1).softmax(-1)
            assert_close(patterns["", 0].weights[:, head, i, : len(seen)], expected, rtol=0, atol=1e-7)


def test_slopes_of_the_paper(build: Callable[..., Attention]) -> None:
    """Section 3: for 8 heads 1/2, 1/4, ... 1/256."""
    slopes = build("alibi", d_model=8, num_heads=8, dtype=torch.float32).slopes
    assert slopes.tolist() == [1 / 2**h for h in range(1, 9)]


def test_leaves_no_trace_in_a_checkpoint(build: Callable[..., Attention]) -> None:
    module = build("alibi", d_model=D_MODEL, num_heads=HEADS)
    assert set(module.state_dict()) == {name for name, _ in module.named_parameters()}


def test_refuses_a_slope_base_that_is_no_slope() -> None:
    with pytest.raises(UserError, match=r"slope_base=-1\.0 must be above 0"):
        build_attention("alibi", d_model=D_MODEL, num_heads=HEADS, slope_base=-1.0)
