"""Grouped-query attention: query heads that share keys and values, beside Hugging Face's and beside `multi_head`."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hf_weights import MASKS, additive, copy_projections, mask_of, no_rotation, require_same
from oracles import oracle
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention
from attnframe.model.accounting import count_attention
from attnframe.model.sites import AttentionFactory, VariantChoice

BATCH, LENGTH, HEAD_DIM, HEADS, D_CONTEXT = 3, 11, 10, 6, 13
D_MODEL = HEADS * HEAD_DIM
EXACT = {"rtol": 0.0, "atol": 1e-10}


@pytest.mark.parametrize("mask_kind", MASKS)
@pytest.mark.parametrize("num_kv_heads", [1, 2, 3, 6])
def test_equals_llama(num_kv_heads: int, mask_kind: str, build: Callable[..., Attention]) -> None:
    """Llama's without its rotation."""
    llama = oracle("transformers.models.llama.modeling_llama")
    config = llama.LlamaConfig(
        hidden_size=D_MODEL,
        num_attention_heads=HEADS,
        num_key_value_heads=num_kv_heads,
        attention_bias=True,
        attn_implementation="eager",
    )
    ours = build("grouped_query", d_model=D_MODEL, num_heads=HEADS, num_kv_heads=num_kv_heads, dtype=torch.float32)
    theirs = llama.LlamaAttention(config, layer_idx=0)
    copy_projections(ours, theirs)
    mask = mask_of(mask_kind, BATCH, LENGTH)
    require_same(
        lambda x: ours(x, x, x, mask),
        lambda x: theirs(x, no_rotation(LENGTH, HEAD_DIM), additive(mask, x))[0],
        batch=BATCH,
        length=LENGTH,
        d_model=D_MODEL,
    )


@pytest.mark.parametrize("num_kv_heads", [1, 2, 3, 6])
def test_is_multi_head_whose_key_heads_repeat(
    num_kv_heads: int, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    """Consecutive query heads share: with each key and value head once for each of its group, heads are as many."""
    sizes = {"d_model": D_MODEL, "num_heads": HEADS, "d_context": D_CONTEXT, "backend": backend_name}
    grouped, full = build("grouped_query", num_kv_heads=num_kv_heads, **sizes), build("cross", seed=1, **sizes)
    group = [head // (HEADS // num_kv_heads) for head in range(HEADS)]
    with torch.no_grad():
        for name in ("query_proj", "output_proj"):
            getattr(full, name).load_state_dict(getattr(grouped, name).state_dict())
        for name in ("key_proj", "value_proj"):
            few, many = getattr(grouped, name), getattr(full, name)
            for head, shared in enumerate(group):
                own, its = (slice(HEAD_DIM * n, HEAD_DIM * (n + 1)) for n in (head, shared))
                many.weight[own] = few.weight[its]
                many.bias[own] = few.bias[its]
    query = torch.randn(BATCH, 5, D_MODEL, dtype=torch.float64, device=device)
    key, value = torch.randn(2, BATCH, LENGTH, D_CONTEXT, dtype=torch.float64, device=device)
    keep = torch.arange(LENGTH, device=device) < torch.tensor([4, LENGTH, 0], device=device)[:, None]
    for mask in (Mask(), Mask(causal=True), Mask(key_keep=keep)):
        assert_close(grouped(query, key, value, mask), full(query, key, value, mask), **EXACT)


@pytest.mark.parametrize(("num_heads", "expected"), [(1, 1), (3, 1), (4, 2), (6, 3)])
def test_null_is_half_of_the_heads_or_one(num_heads: int, expected: int) -> None:
    assert build_attention("grouped_query", d_model=12, num_heads=num_heads).num_kv_heads == expected


@pytest.mark.parametrize("num_kv_heads", [1, 2, 3, 6])
def test_the_cache_shrinks_with_the_heads(num_kv_heads: int) -> None:
    choice = VariantChoice("grouped_query", {"num_kv_heads": num_kv_heads})
    factory = AttentionFactory(
        choices={"decoder_self": (choice,)}, d_model=D_MODEL, encoder_d_model=D_MODEL, num_heads=HEADS
    )
    (site,) = count_attention(factory).sites
    assert site.cache_per_token == 2 * num_kv_heads * HEAD_DIM


@pytest.mark.parametrize("num_kv_heads", [0, -2, 4, 12])
def test_refuses_groups_of_different_sizes(num_kv_heads: int) -> None:
    with pytest.raises(UserError, match=f"num_kv_heads={num_kv_heads} does not divide num_heads=6; possible: 1, 2, 3"):
        build_attention("grouped_query", d_model=D_MODEL, num_heads=HEADS, num_kv_heads=num_kv_heads)
