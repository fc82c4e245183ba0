"""A gate on the output of attention, opened by the query."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from agreement import BATCH, FP32, MASKS, TOKENS, additive, assert_same
from oracles import oracle
from torch import nn
from torch.testing import assert_close

from attnframe import Attention, Mask, split_heads

D_MODEL, HEADS, D_CONTEXT = 22, 2, 13


def _qwen(module: Attention) -> nn.Module:
    """The attention of Qwen3-Next with the module's weights, and without its norms of queries and keys."""
    size = D_MODEL // HEADS
    config = oracle("transformers").Qwen3NextConfig(
        hidden_size=D_MODEL,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=size,
        num_hidden_layers=1,
        attention_bias=True,
        attn_implementation="eager",
    )
    theirs = oracle("transformers.models.qwen3_next.modeling_qwen3_next").Qwen3NextAttention(config, layer_idx=0)
    theirs.q_norm = theirs.k_norm = nn.Identity()
    for linear, ours in (
        (theirs.k_proj, module.key_proj),
        (theirs.v_proj, module.value_proj),
        (theirs.o_proj, module.output_proj),
    ):
        linear.load_state_dict(ours.state_dict())
    # Theirs has query and gate of a head next to each other.
    for name in ("weight", "bias"):
        query, gate = (getattr(of, name).unflatten(0, (HEADS, size)) for of in (module.query_proj, module.gate_proj))
        getattr(theirs.q_proj, name).data.copy_(torch.cat([query, gate], dim=1).flatten(0, 1))
    return theirs.eval()


@pytest.mark.parametrize("mask_name", MASKS)
def test_equals_qwen3_next(mask_name: str, build: Callable[..., Attention]) -> None:
    module = build("gated", d_model=D_MODEL, num_heads=HEADS, dtype=torch.float32)
    theirs, mask = _qwen(module), MASKS[mask_name]
    # Not turned by position.
    unturned = torch.ones(1, TOKENS, 2), torch.zeros(1, TOKENS, 2)
    assert_same(
        lambda x: module(x, x, x, mask),
        lambda x: theirs(x, unturned, additive(mask))[0],
        [torch.randn(BATCH, TOKENS, D_MODEL)],
        **FP32,
    )


@pytest.mark.parametrize("headwise", [True, False])
def test_without_weights_every_gate_is_as_open_as_its_bias_says(
    headwise: bool, build: Callable[..., Attention]
) -> None:
    module = build("gated", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT, headwise=headwise)
    plain = build("cross", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT)
    plain.load_state_dict(module.state_dict(), strict=False)
    nn.init.zeros_(module.gate_proj.weight)
    nn.init.constant_(module.gate_proj.bias, 3.0)
    inputs = [torch.randn(BATCH, TOKENS, width, dtype=torch.float64) for width in (D_MODEL, D_CONTEXT, D_CONTEXT)]
    bias = plain.output_proj.bias
    opening = 1 / (1 + torch.tensor(-3.0, dtype=torch.float64).exp())
    expected = opening * (plain(*inputs, Mask(causal=True)) - bias) + bias
    assert_close(module(*inputs, Mask(causal=True)), expected, rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("headwise", [True, False])
def test_a_gate_is_of_its_query_and_its_head(headwise: bool, build: Callable[..., Attention]) -> None:
    module = build("gated", d_model=D_MODEL, num_heads=HEADS, headwise=headwise)
    size = D_MODEL // HEADS
    assert module.gate_proj.weight.shape == ((HEADS if headwise else D_MODEL), D_MODEL)
    x = torch.randn(BATCH, TOKENS, D_MODEL, dtype=torch.float64)
    q, k, v = (split_heads(linear(x), HEADS) for linear in (module.query_proj, module.key_proj, module.value_proj))
    attended = (q @ k.mT / size**0.5).softmax(-1) @ v
    expected = module.output_proj.bias
    for head in range(HEADS):
        rows = slice(head, head + 1) if headwise else slice(size * head, size * (head + 1))
        logits = x @ module.gate_proj.weight[rows].T + module.gate_proj.bias[rows]
        part = attended[:, head] / (1 + torch.exp(-logits))
        expected = expected + part @ module.output_proj.weight[:, size * head : size * (head + 1)].T
    assert_close(module(x, x, x), expected, rtol=0.0, atol=1e-10)
