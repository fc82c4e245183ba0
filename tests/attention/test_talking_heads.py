"""Talking heads: scores and weights mixed over heads."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from agreement import BATCH, FP32, MASKS, TOKENS, assert_same, dense
from oracles import oracle
from torch import nn
from torch.testing import assert_close

from attnframe import Attention, Mask, build_attention, record_patterns, split_heads

D_MODEL, HEADS, D_CONTEXT = 21, 3, 13


def _x_transformers(module: Attention) -> nn.Module:
    """x-transformers' attention with the module's weights; it adds the mixed scores to the scores themselves."""
    theirs = oracle("x_transformers").Attention(
        D_MODEL,
        dim_head=D_MODEL // HEADS,
        heads=HEADS,
        dim_context=D_CONTEXT,
        pre_talking_heads=True,
        post_talking_heads=True,
    )
    for linear, ours in (
        (theirs.to_q, module.query_proj),
        (theirs.to_k, module.key_proj),
        (theirs.to_v, module.value_proj),
        (theirs.to_out, module.output_proj),
    ):
        linear.load_state_dict(ours.state_dict())
    for convolution, mix in (
        (theirs.attend.pre_softmax_talking_heads, module.score_mix - torch.eye(HEADS)),
        (theirs.attend.post_softmax_talking_heads, module.weight_mix),
    ):
        convolution.weight.data.copy_(mix[..., None, None])
    return theirs.eval()


@pytest.mark.parametrize("mask_name", MASKS)
def test_equals_x_transformers(mask_name: str, build: Callable[..., Attention]) -> None:
    module = build(
        "talking_heads", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT, bias=False, dtype=torch.float32
    )
    theirs, mask = _x_transformers(module), MASKS[mask_name]
    assert_same(
        lambda x, context: module(x, context, context, mask),
        lambda x, context: theirs(x, context, attn_mask=dense(mask)),
        [torch.randn(BATCH, TOKENS, D_MODEL), torch.randn(BATCH, TOKENS, D_CONTEXT)],
        parameters=[
            (module.score_mix, theirs.attend.pre_softmax_talking_heads.weight),
            (module.weight_mix, theirs.attend.post_softmax_talking_heads.weight),
        ],
        **FP32,
    )


@pytest.mark.parametrize("mask_name", MASKS)
def test_it_starts_as_multi_head(mask_name: str, build: Callable[..., Attention]) -> None:
    module = build_attention("talking_heads", d_model=D_MODEL, num_heads=HEADS).double()
    plain = build("multi_head", d_model=D_MODEL, num_heads=HEADS)
    plain.load_state_dict(module.state_dict(), strict=False)
    x, mask = torch.randn(BATCH, TOKENS, D_MODEL, dtype=torch.float64), MASKS[mask_name]
    assert_close(module(x, x, x, mask), plain(x, x, x, mask), rtol=0.0, atol=1e-12)


def test_heads_that_take_turns_before_and_take_them_back_after_change_nothing(build: Callable[..., Attention]) -> None:
    module = build("talking_heads", d_model=D_MODEL, num_heads=HEADS)
    plain = build("multi_head", d_model=D_MODEL, num_heads=HEADS)
    plain.load_state_dict(module.state_dict(), strict=False)
    turn = torch.eye(HEADS)[[1, 2, 0]]
    x = torch.randn(BATCH, TOKENS, D_MODEL, dtype=torch.float64)
    expected = plain(x, x, x, Mask(causal=True))
    module.score_mix.data.copy_(turn)
    module.weight_mix.data.copy_(turn.T)
    assert_close(module(x, x, x, Mask(causal=True)), expected, rtol=0.0, atol=1e-12)
    module.weight_mix.data.copy_(turn)
    assert (module(x, x, x, Mask(causal=True)) - expected).abs().max() > 0.01


@pytest.mark.parametrize("mask_name", MASKS)
def test_rows_have_the_mass_that_the_second_map_gives_them(mask_name: str, build: Callable[..., Attention]) -> None:
    module = build("talking_heads", d_model=D_MODEL, num_heads=HEADS)
    module.weight_mix.data.copy_(torch.tensor([[1.0, -3.0, 0.5], [0.0, 2.0, 0.25], [1.0, 0.0, -1.0]]))
    x = torch.randn(BATCH, TOKENS, D_MODEL, dtype=torch.float64)
    with record_patterns(module) as recorded:
        module(x, x, x, MASKS[mask_name])
    pattern = recorded["", 0]
    assert pattern.kind == "signed"
    assert (pattern.weights < 0).any()
    wanted = torch.tensor([-1.5, 2.25, 0.0], dtype=torch.float64)[:, None].expand(BATCH, HEADS, TOKENS)
    assert_close(pattern.weights.sum(-1), wanted)


def test_hidden_scores_that_overflow_leave_gradients_finite(build: Callable[..., Attention]) -> None:
    module = build("talking_heads", d_model=D_MODEL, num_heads=HEADS, dtype=torch.float16)
    x = 8 * torch.randn(1, TOKENS, D_MODEL, dtype=torch.float16)
    key = x.clone()
    key[:, -1] = 4000.0
    q, k = (split_heads(linear(y), HEADS) for linear, y in ((module.query_proj, x), (module.key_proj, key)))
    scores = q @ k.mT / (D_MODEL // HEADS) ** 0.5
    assert k.isfinite().all()
    assert scores[..., :-1].isfinite().all()
    assert not scores[..., -1].isfinite().all()
    module(x, key, x, Mask(key_keep=torch.arange(TOKENS)[None] < TOKENS - 1)).sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad.isfinite().all(), name
