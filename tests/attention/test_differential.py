"""Differential attention: one softmax minus a part of another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from agreement import BATCH, FP32, MASKS, TOKENS, additive, assert_same
from oracles import oracle
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention, record_patterns

D_MODEL, HEADS, D_CONTEXT = 36, 3, 13
HEAD_DIM = D_MODEL // HEADS
LAMBDAS = ("lambda_q1", "lambda_k1", "lambda_q2", "lambda_k2")


def _diff_llama(module: Attention, layer: int) -> nn.Module:
    """DiffLlama's attention with the module's weights. Its norm has no gain."""
    half = HEAD_DIM // 2
    config = oracle("transformers").DiffLlamaConfig(
        hidden_size=D_MODEL,
        num_attention_heads=2 * HEADS,
        num_key_value_heads=2 * HEADS,
        head_dim=half,
        num_hidden_layers=layer + 1,
        attention_bias=True,
        rms_norm_eps=1e-5,
        attn_implementation="eager",
    )
    theirs = oracle("transformers.models.diffllama.modeling_diffllama").DiffLlamaAttention(config, layer_idx=layer)
    theirs.o_proj.load_state_dict(module.output_proj.state_dict())
    for linear, ours in (
        (theirs.q_proj, module.query_proj),
        (theirs.k_proj, module.key_proj),
        (theirs.v_proj, module.value_proj),
    ):
        for name in ("weight", "bias"):
            # Theirs has the first halves of all heads, then the second ones; ours has both halves of each head.
            by_half = getattr(ours, name).unflatten(0, (HEADS, 2, half)).transpose(0, 1)
            getattr(linear, name).data.copy_(by_half.flatten(0, 2))
    for name in LAMBDAS:
        getattr(theirs, name).data.copy_(getattr(module, name))
    return theirs.eval()


@pytest.mark.parametrize("layer", [0, 3])
@pytest.mark.parametrize("mask_name", MASKS)
def test_equals_diff_llama(mask_name: str, layer: int) -> None:
    # With weights as they start: larger ones, and a λ near 1, leave rows that nearly cancel, and few digits in fp32.
    torch.manual_seed(0)
    module = build_attention("differential", d_model=D_MODEL, num_heads=HEADS)
    module.layer = layer
    theirs, mask = _diff_llama(module, layer), MASKS[mask_name]
    # Not turned by position.
    unturned = torch.ones(1, TOKENS, HEAD_DIM // 2), torch.zeros(1, TOKENS, HEAD_DIM // 2)
    assert_same(
        lambda x: module(x, x, x, mask),
        lambda x: theirs(x, unturned, additive(mask))[0],
        [torch.randn(BATCH, TOKENS, D_MODEL)],
        parameters=[(getattr(module, name), getattr(theirs, name)) for name in LAMBDAS],
        **FP32,
    )


def _inputs() -> list[Tensor]:
    return [torch.randn(BATCH, TOKENS, width, dtype=torch.float64) for width in (D_MODEL, D_CONTEXT, D_CONTEXT)]


def _with_lambda(build: Callable[..., Attention], total: float, lambda_init: float) -> Attention:
    """A module whose λ is `total`."""
    module = build("differential", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT, lambda_init=lambda_init)
    for name in LAMBDAS:
        nn.init.zeros_(getattr(module, name))
    rest = torch.tensor(total - lambda_init + 1, dtype=torch.float64)
    module.lambda_q1.data[0], module.lambda_k1.data[0] = rest.log(), 1.0
    return module


def test_rows_sum_to_1_minus_lambda(build: Callable[..., Attention]) -> None:
    module = _with_lambda(build, total=0.7, lambda_init=0.3)
    with record_patterns(module) as recorded:
        module(*_inputs(), Mask(key_keep=torch.tensor([[True] * TOKENS, [True] + [False] * (TOKENS - 1)])[[0, 1, 1]]))
    pattern = recorded["", 0]
    assert pattern.kind == "signed"
    assert (pattern.weights < 0).any()
    assert_close(pattern.weights.sum(-1), torch.full((BATCH, HEADS, TOKENS), 0.3, dtype=torch.float64))


def test_what_both_maps_see_alike_cancels(build: Callable[..., Attention]) -> None:
    """With the same queries and keys in both halves and λ = 1 nothing is left but the output bias."""
    module = _with_lambda(build, total=1.0, lambda_init=0.3)
    inputs, half = _inputs(), HEAD_DIM // 2
    assert (module(*inputs) - module.output_proj.bias).abs().max() > 0.1
    for linear in (module.query_proj, module.key_proj):
        for parameter in linear.parameters():
            by_half = parameter.data.unflatten(0, (HEADS, 2, half))
            by_half[:, 1] = by_half[:, 0]
    assert_close(module(*inputs), module.output_proj.bias.expand(BATCH, TOKENS, -1), rtol=0.0, atol=1e-9)


def test_without_lambda_it_is_the_first_half_normed(build: Callable[..., Attention]) -> None:
    module, half = _with_lambda(build, total=0.0, lambda_init=0.0), HEAD_DIM // 2
    query, key, value = _inputs()
    q, k, v = module.query_proj(query), module.key_proj(key), module.value_proj(value)
    normed = []
    for head in range(HEADS):
        first = slice(HEAD_DIM * head, HEAD_DIM * head + half)
        whole = slice(HEAD_DIM * head, HEAD_DIM * (head + 1))
        attended = (q[..., first] @ k[..., first].mT / half**0.5).softmax(-1) @ v[..., whole]
        normed.append(attended / (attended.square().mean(-1, keepdim=True) + 1e-5).sqrt() * module.head_norm.weight)
    assert_close(module(query, key, value), module.output_proj(torch.cat(normed, -1)), rtol=0.0, atol=1e-10)


def test_lambda_grows_with_depth_unless_it_is_given(build: Callable[..., Attention]) -> None:
    inputs = _inputs()
    by_depth = build("differential", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT)
    # 0.8 - 0.6·exp(-0.3·layer) of layers 0 and 2.
    for layer, value in ((0, 0.2), (2, 0.4707130183435842)):
        by_depth.layer = layer
        fixed = build("differential", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT, lambda_init=value)
        fixed.layer = 1
        assert_close(fixed(*inputs), by_depth(*inputs), rtol=0.0, atol=1e-12)


def test_an_odd_head_is_halved_into_one_dimension_more() -> None:
    module = build_attention("differential", d_model=D_MODEL, num_heads=4)
    assert module.query_proj.out_features == module.key_proj.out_features == 4 * 10
    assert module.value_proj.out_features == 4 * 9


@pytest.mark.parametrize("lambda_init", [1.0, -0.1])
def test_refuses(lambda_init: float) -> None:
    with pytest.raises(UserError, match=f"lambda_init={lambda_init} must be at least 0 and below 1"):
        build_attention("differential", d_model=D_MODEL, num_heads=HEADS, lambda_init=lambda_init)
