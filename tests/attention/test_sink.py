"""A sink in the denominator: mass for no key."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from agreement import BATCH, FP32, MASKS, TOKENS, additive, assert_same, dense
from oracles import oracle
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import Attention, Mask, record_patterns

D_MODEL, HEADS, D_CONTEXT = 28, 2, 13


def _gpt_oss(module: Attention) -> nn.Module:
    """The attention of gpt-oss with the module's weights."""
    config = oracle("transformers").GptOssConfig(
        hidden_size=D_MODEL,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=D_MODEL // HEADS,
        num_hidden_layers=1,
        attention_bias=True,
        layer_types=["full_attention"],
        attn_implementation="eager",
    )
    theirs = oracle("transformers.models.gpt_oss.modeling_gpt_oss").GptOssAttention(config, layer_idx=0)
    for linear, ours in (
        (theirs.q_proj, module.query_proj),
        (theirs.k_proj, module.key_proj),
        (theirs.v_proj, module.value_proj),
        (theirs.o_proj, module.output_proj),
    ):
        linear.load_state_dict(ours.state_dict())
    nn.init.zeros_(theirs.sinks) if module.sink is None else theirs.sinks.data.copy_(module.sink)
    return theirs.eval()


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("mask_name", MASKS)
def test_equals_gpt_oss(mask_name: str, learned: bool, build: Callable[..., Attention]) -> None:
    module = build("sink", d_model=D_MODEL, num_heads=HEADS, learned=learned, dtype=torch.float32)
    theirs, mask = _gpt_oss(module), MASKS[mask_name]
    # Not turned by position.
    unturned = torch.ones(1, TOKENS, 1), torch.zeros(1, TOKENS, 1)
    assert_same(
        lambda x: module(x, x, x, mask),
        lambda x: theirs(x, unturned, additive(mask))[0],
        [torch.randn(BATCH, TOKENS, D_MODEL)],
        parameters=[(module.sink, theirs.sinks)] if learned else [],
        **FP32,
    )


def _plain(build: Callable[..., Attention], module: Attention) -> Attention:
    """Multi-head attention with the same projections."""
    plain = build("cross", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT)
    plain.load_state_dict(module.state_dict(), strict=False)
    return plain


def _inputs() -> list[Tensor]:
    return [torch.randn(BATCH, TOKENS, width, dtype=torch.float64) for width in (D_MODEL, D_CONTEXT, D_CONTEXT)]


@pytest.mark.parametrize("mask_name", MASKS)
def test_without_a_sink_it_is_multi_head_and_with_a_deep_one_nothing(
    mask_name: str, build: Callable[..., Attention]
) -> None:
    module = build("sink", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT)
    inputs, mask = _inputs(), MASKS[mask_name]
    nn.init.constant_(module.sink, -1000.0)
    assert_close(module(*inputs, mask), _plain(build, module)(*inputs, mask), rtol=0.0, atol=1e-10)
    nn.init.constant_(module.sink, 1000.0)
    assert_close(module(*inputs, mask), module.output_proj.bias.expand(BATCH, TOKENS, -1), rtol=0.0, atol=1e-10)


@pytest.mark.parametrize("learned", [True, False])
@pytest.mark.parametrize("mask_name", MASKS)
def test_a_row_lacks_the_mass_of_the_sink(mask_name: str, learned: bool, build: Callable[..., Attention]) -> None:
    module = build("sink", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT, learned=learned)
    sinks = [0.0, 0.0]
    if learned:
        sinks = [0.7, -1.3]
        module.sink.data.copy_(torch.tensor(sinks))
    nn.init.zeros_(module.query_proj.weight)
    nn.init.zeros_(module.query_proj.bias)
    with record_patterns(module) as recorded:
        module(*_inputs(), MASKS[mask_name])
    # Without scores n keys have n of n + exp(z).
    n = dense(MASKS[mask_name]).sum(-1).double()
    wanted = n / (n + torch.tensor(sinks, dtype=torch.float64).exp()[:, None])
    assert recorded["", 0].kind == "unnormalised"
    assert_close(recorded["", 0].weights.sum(-1), wanted.expand(BATCH, HEADS, TOKENS))


def test_it_starts_off_by_one(build: Callable[..., Attention]) -> None:
    learned, fixed = (
        build("sink", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT, learned=choice) for choice in (True, False)
    )
    assert {name for name, _ in learned.named_parameters()} - {name for name, _ in fixed.named_parameters()} == {"sink"}
    fixed.load_state_dict(learned.state_dict(), strict=False)
    learned.sink.data.zero_()
    inputs = _inputs()
    assert_close(learned(*inputs, Mask()), fixed(*inputs, Mask()), rtol=0.0, atol=0.0)
