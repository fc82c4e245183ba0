"""Relative bias: beside T5's own attention in Hugging Face, encoder and decoder."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hf_weights import MASKS, additive, copy_projections, mask_of, require_same
from oracles import oracle
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention, record_patterns

BATCH, LENGTH, HEAD_DIM, HEADS = 3, 29, 7, 3
D_MODEL = HEADS * HEAD_DIM
EXACT = {"rtol": 0.0, "atol": 1e-10}
T5_NAMES = {"key_proj": "k", "value_proj": "v", "output_proj": "o"}


@pytest.mark.parametrize("mask_kind", MASKS)
@pytest.mark.parametrize(
    ("options", "length"),
    [
        ({"num_buckets": 8, "max_distance": 13}, LENGTH),
        ({"num_buckets": 10, "max_distance": 17}, LENGTH),
        ({}, 157),
    ],
    ids=str,
)
def test_equals_t5(options: dict[str, int], length: int, mask_kind: str, build: Callable[..., Attention]) -> None:
    """A decoder of theirs is causal, an encoder is not; T5 has no 1/√d_k, so our queries are longer by its inverse."""
    t5 = oracle("transformers.models.t5.modeling_t5")
    config = t5.T5Config(
        d_model=D_MODEL,
        d_kv=HEAD_DIM,
        num_heads=HEADS,
        relative_attention_num_buckets=options.get("num_buckets", 32),
        relative_attention_max_distance=options.get("max_distance", 128),
        is_decoder=MASKS[mask_kind][0],
        attn_implementation="eager",
    )
    ours = build("relative_bias", d_model=D_MODEL, num_heads=HEADS, bias=False, dtype=torch.float32, **options)
    theirs = t5.T5Attention(config, has_relative_attention_bias=True, layer_idx=0).eval()
    copy_projections(ours, theirs, T5_NAMES)
    with torch.no_grad():
        theirs.q.weight.copy_(ours.query_proj.weight / HEAD_DIM**0.5)
        theirs.relative_attention_bias.weight.copy_(ours.bucket_bias)
    mask = mask_of(mask_kind, BATCH, length)
    require_same(
        lambda x: ours(x, x, x, mask),
        lambda x: theirs(x, mask=additive(mask, x))[0],
        batch=BATCH,
        length=length,
        d_model=D_MODEL,
    )


@pytest.mark.parametrize(
    ("causal", "bucket_of"),
    [
        # Of 8 buckets 4 are for keys at the query or before it: distances 0, 1, then from 2 and 2·(18/2)^(1/2) = 6 on.
        (False, {0: 0, -1: 1, -2: 2, -5: 2, -6: 3, -12: 3, 1: 5, 2: 6, 5: 6, 6: 7, 12: 7}),
        # All 8: distances 0 to 3 on their own, then from 4, 6, 9 and 13 on: 4·(18/4)^(n/4) is 4, 5.8, 8.5, 12.4.
        (True, {0: 0, -1: 1, -2: 2, -3: 3, -4: 4, -5: 4, -6: 5, -8: 5, -9: 6, -12: 6, -13: 7}),
    ],
)
def test_buckets_by_hand(causal: bool, bucket_of: dict[int, int], build: Callable[..., Attention]) -> None:
    """With keys of 0 a pattern is the softmax of the biases."""
    module = build("relative_bias", d_model=4, num_heads=2, num_buckets=8, max_distance=18)
    with torch.no_grad():
        module.key_proj.weight.zero_()
        module.key_proj.bias.zero_()
        module.bucket_bias.copy_(torch.arange(8)[:, None] * torch.tensor([0.1, -0.3]))
    x = torch.randn(1, 14, 4, dtype=torch.float64)
    with record_patterns(module) as patterns:
        module(x, x, x, Mask(causal=causal))
    weights = patterns["", 0].weights[0].double()
    for offset, bucket in bucket_of.items():
        i = max(0, -offset)
        for head, slope in enumerate((0.1, -0.3)):
            ratio = (weights[head, i, i + offset] / weights[head, i, i]).log().item()
            assert ratio == pytest.approx(slope * bucket, abs=1e-5), (offset, head)


@pytest.mark.parametrize("mask_kind", MASKS)
def test_starts_as_multi_head(mask_kind: str, build: Callable[..., Attention], backend_name: str) -> None:
    module = build("relative_bias", d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    fresh = build_attention("relative_bias", d_model=D_MODEL, num_heads=HEADS)
    module.bucket_bias.data.copy_(fresh.bucket_bias)
    full = build("multi_head", d_model=D_MODEL, num_heads=HEADS, seed=1)
    full.load_state_dict({name: x for name, x in module.state_dict().items() if name != "bucket_bias"})
    x = torch.randn(BATCH, LENGTH, D_MODEL, dtype=torch.float64)
    mask = mask_of(mask_kind, BATCH, LENGTH)
    assert_close(module(x, x, x, mask), full(x, x, x, mask), **EXACT)


def test_only_distances_count(build: Callable[..., Attention]) -> None:
    """Three hidden keys in front move every position by 3."""
    module = build("relative_bias", d_model=D_MODEL, num_heads=HEADS)
    x = torch.randn(1, LENGTH, D_MODEL, dtype=torch.float64)
    longer = torch.cat([torch.randn(1, 3, D_MODEL, dtype=torch.float64), x], dim=1)
    keep = torch.arange(LENGTH + 3)[None] >= 3
    moved = module(x, longer, longer, Mask(key_keep=keep, query_offset=3))
    assert_close(moved, module(x, x, x), **EXACT)
    farther = module(x, longer, longer, Mask(key_keep=keep, query_offset=4))
    assert (farther - moved).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_buckets": 2}, "num_buckets=2 must be even and at least 4"),
        ({"num_buckets": 7}, "num_buckets=7 must be even"),
        ({"max_distance": 16}, "max_distance=16 must be above 16, for of num_buckets=32"),
    ],
)
def test_refuses_buckets_without_distances(options: dict[str, int], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_attention("relative_bias", d_model=D_MODEL, num_heads=HEADS, **options)
