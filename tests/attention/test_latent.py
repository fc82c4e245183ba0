"""Multi-head latent attention: beside DeepSeek's own in Hugging Face, and what it keeps of a token."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hf_weights import MASKS, additive, copy_projections, mask_of, require_same
from oracles import oracle
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention
from attnframe.attention import KeyValueCache
from attnframe.model.accounting import count_attention
from attnframe.model.sites import AttentionFactory, VariantChoice

BATCH, LENGTH, HEAD_DIM, HEADS = 3, 11, 7, 3
D_MODEL, KV_RANK, Q_RANK, ROPE_DIM, THETA = HEADS * HEAD_DIM, 5, 13, 4, 100.0
EXACT = {"rtol": 0.0, "atol": 1e-10}


def heads_stacked(*parts: Tensor) -> Tensor:
    """Rows of one weight, head by head, of each part in turn."""
    return torch.cat([part.unflatten(0, (HEADS, -1)) for part in parts], dim=1).flatten(0, 1)


def order_of_pairs(interleave: bool) -> list[int]:
    """Which of our dimensions stands where in theirs: pair i is (2i, 2i + 1) there if they are interleaved."""
    half = ROPE_DIM // 2
    return [n for i in range(half) for n in (i, i + half)] if interleave else list(range(ROPE_DIM))


def copy_to_deepseek(ours: Attention, theirs: nn.Module, interleave: bool) -> None:
    """Only what goes down into a latent, and the output, has a bias in theirs: our others are set to 0."""
    order = order_of_pairs(interleave)
    with torch.no_grad():
        for linear in (ours.key_up, ours.value_up, ours.query_up, ours.rope_query_proj):
            linear.bias.zero_()
        rope_query = ours.rope_query_proj.weight.unflatten(0, (HEADS, ROPE_DIM))[:, order].flatten(0, 1)
        up = heads_stacked(ours.query_up.weight, rope_query)
        if theirs.q_proj is not None:
            theirs.q_proj.weight.copy_(up)
        else:
            theirs.q_b_proj.weight.copy_(up)
            copy_projections(ours, theirs, {"query_down": "q_a_proj", "query_norm": "q_a_layernorm"})
        copy_projections(ours, theirs, {"latent_norm": "kv_a_layernorm", "output_proj": "o_proj"})
        down, rope_key = ours.latent_down, ours.rope_key_proj
        theirs.kv_a_proj_with_mqa.weight.copy_(torch.cat([down.weight, rope_key.weight[order]]))
        theirs.kv_a_proj_with_mqa.bias.copy_(torch.cat([down.bias, rope_key.bias[order]]))
        theirs.kv_b_proj.weight.copy_(heads_stacked(ours.key_up.weight, ours.value_up.weight))


@pytest.mark.parametrize("mask_kind", MASKS)
@pytest.mark.parametrize(("q_rank", "interleave"), [(None, False), (Q_RANK, False), (Q_RANK, True)])
def test_equals_deepseek(q_rank: int | None, interleave: bool, mask_kind: str, build: Callable[..., Attention]) -> None:
    deepseek = oracle("transformers.models.deepseek_v3.modeling_deepseek_v3")
    config = deepseek.DeepseekV3Config(
        hidden_size=D_MODEL,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        kv_lora_rank=KV_RANK,
        q_lora_rank=q_rank,
        qk_nope_head_dim=HEAD_DIM,
        v_head_dim=HEAD_DIM,
        qk_rope_head_dim=ROPE_DIM,
        rope_interleave=interleave,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        attention_bias=True,
        attn_implementation="eager",
    )
    options = {"kv_rank": KV_RANK, "q_rank": q_rank, "rope_dim": ROPE_DIM, "theta": THETA}
    ours = build("latent", d_model=D_MODEL, num_heads=HEADS, dtype=torch.float32, **options)
    theirs = deepseek.DeepseekV3Attention(config, layer_idx=0)
    copy_to_deepseek(ours, theirs, interleave)
    rotation = deepseek.DeepseekV3RotaryEmbedding(config)
    mask = mask_of(mask_kind, BATCH, LENGTH)
    require_same(
        lambda x: ours(x, x, x, mask),
        lambda x: theirs(x, rotation(x, torch.arange(LENGTH)[None]), additive(mask, x))[0],
        batch=BATCH,
        length=LENGTH,
        d_model=D_MODEL,
    )


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, 2 * HEAD_DIM + 2),
        ({"kv_rank": KV_RANK}, KV_RANK + 2),
        ({"kv_rank": KV_RANK, "rope_dim": 6, "q_rank": Q_RANK}, KV_RANK + 6),
    ],
)
def test_keeps_the_latent_and_the_rope_key_alone(options: dict[str, int], kept: int) -> None:
    factory = AttentionFactory(
        choices={"decoder_self": (VariantChoice("latent", options),), "cross": (VariantChoice("latent", options),)},
        d_model=D_MODEL,
        encoder_d_model=D_MODEL,
        num_heads=HEADS,
    )
    assert [site.cache_per_token for site in count_attention(factory).sites] == [kept, kept]
    module = build_attention("latent", d_model=D_MODEL, num_heads=HEADS, **options)
    cache = KeyValueCache([module])
    x = torch.randn(BATCH, LENGTH, D_MODEL)
    with torch.no_grad(), cache.attached():
        for step in range(LENGTH):
            new = x[:, step : step + 1]
            module(new, new, new, Mask(causal=True, query_offset=step, key_offset=step))
    assert cache.elements == BATCH * LENGTH * kept


def test_other_values_have_a_latent_of_their_own(build: Callable[..., Attention]) -> None:
    """With keys of 0 each weight is 1/n, and what comes out is the mean of the values."""
    module = build("latent", d_model=D_MODEL, num_heads=HEADS)
    with torch.no_grad():
        for linear in (module.key_up, module.rope_key_proj):
            linear.weight.zero_()
            linear.bias.zero_()
    query = torch.randn(BATCH, 5, D_MODEL, dtype=torch.float64)
    key, value = torch.randn(2, BATCH, LENGTH, D_MODEL, dtype=torch.float64)
    down = module.latent_down(value)
    latent = down / (down.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt() * module.latent_norm.weight
    expected = module.output_proj(module.value_up(latent).mean(1, keepdim=True)).expand_as(query)
    assert_close(module(query, key, value), expected, **EXACT)


def test_other_values_are_cached_too(build: Callable[..., Attention]) -> None:
    module = build("latent", d_model=D_MODEL, num_heads=HEADS)
    x = torch.randn(BATCH, LENGTH, D_MODEL, dtype=torch.float64)
    value = x.flip(-1)
    full = module(x, x, value, Mask(causal=True))
    cache = KeyValueCache([module])
    with cache.attached():
        for step in range(LENGTH):
            one = slice(step, step + 1)
            output = module(x[:, one], x[:, one], value[:, one], Mask(causal=True, query_offset=step, key_offset=step))
            assert_close(output, full[:, one], **EXACT)


def test_only_distances_count(build: Callable[..., Attention]) -> None:
    """Three hidden keys in front move every position by 3."""
    module = build("latent", d_model=D_MODEL, num_heads=HEADS)
    x = torch.randn(1, LENGTH, D_MODEL, dtype=torch.float64)
    longer = torch.cat([torch.randn(1, 3, D_MODEL, dtype=torch.float64), x], dim=1)
    hidden = Mask(key_keep=torch.arange(LENGTH + 3)[None] >= 3, query_offset=3)
    assert_close(module(x, longer, longer, hidden), module(x, x, x), **EXACT)
    farther = Mask(key_keep=hidden.key_keep, query_offset=4)
    assert (module(x, longer, longer, farther) - module(x, x, x)).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kv_rank": 0}, "kv_rank=0 must be at least 1"),
        ({"q_rank": -1}, "q_rank=-1 must be at least 1"),
        ({"rope_dim": 3}, "rope_dim=3 must be even"),
        ({"rope_dim": 0}, "rope_dim=0 must be even and at least 2"),
        ({"theta": 0.0}, "theta=0 must be above 1"),
    ],
)
def test_refuses_what_is_no_size(options: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_attention("latent", d_model=D_MODEL, num_heads=HEADS, **options)
