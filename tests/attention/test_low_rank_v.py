"""The value map as the note writes it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention

BATCH, QUERIES, KEYS, D_MODEL, HEADS = 3, 5, 7, 22, 2
LENGTHS = (4, KEYS, 1)


def _value_map(module: torch.nn.Module, head: int, rank: int, full_rank: bool) -> torch.Tensor:
    """The d_model x d_model map from E to ΔE of one head, for row vectors."""
    if full_rank:
        return module.value_proj.weight[D_MODEL * head : D_MODEL * (head + 1)].T
    rows = slice(rank * head, rank * (head + 1))
    return module.value_down.weight[rows].T @ module.value_up.weight[:, rows].T


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rank", "full_rank"), [(1, False), (3, False), (D_MODEL, False), (None, True)])
def test_each_head_adds_its_own_delta(
    rank: int | None,
    full_rank: bool,
    bias: bool,
    causal: bool,
    backend_name: str,
    build: Callable[..., Attention],
    device: torch.device,
) -> None:
    module = build(
        "low_rank_v",
        d_model=D_MODEL,
        num_heads=HEADS,
        bias=bias,
        rank=rank,
        full_rank=full_rank,
        backend=backend_name,
    )
    query = torch.randn(BATCH, QUERIES, D_MODEL, dtype=torch.float64, device=device)
    key, value = torch.randn(2, BATCH, KEYS, D_MODEL, dtype=torch.float64, device=device)
    keep = torch.tensor([[j < n for j in range(KEYS)] for n in LENGTHS], device=device)
    size = D_MODEL // HEADS
    q, k = module.query_proj(query), module.key_proj(key)
    expected = torch.zeros_like(query)
    for b in range(BATCH):
        for i in range(QUERIES):
            seen = [j for j in range(LENGTHS[b]) if not causal or j <= i]
            for head in range(HEADS):
                part = slice(size * head, size * (head + 1))
                scores = torch.stack([q[b, i, part] @ k[b, j, part] / size**0.5 for j in seen])
                for weight, j in zip(scores.softmax(0), seen, strict=True):
                    delta = value[b, j] @ _value_map(module, head, rank or 0, full_rank)
                    expected[b, i] = expected[b, i] + weight * delta
    if bias:
        expected = expected + (module.output_bias if full_rank else module.value_up.bias)
    assert_close(module(query, key, value, Mask(keep, causal=causal)), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("rank", [1, 3, 11, None])
def test_the_value_map_has_the_rank_that_was_asked_for(rank: int | None, build: Callable[..., Attention]) -> None:
    module = build("low_rank_v", d_model=D_MODEL, num_heads=HEADS, rank=rank)
    effective = D_MODEL // HEADS if rank is None else rank
    for head in range(HEADS):
        assert torch.linalg.matrix_rank(_value_map(module, head, effective, False)) == effective
    assert module.value_down.weight.shape == (HEADS * effective, D_MODEL)


def test_a_full_rank_value_map_has_full_rank(build: Callable[..., Attention]) -> None:
    module = build("low_rank_v", d_model=D_MODEL, num_heads=HEADS, full_rank=True)
    for head in range(HEADS):
        assert torch.linalg.matrix_rank(_value_map(module, head, 0, True)) == D_MODEL


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"full_rank": True, "rank": 4}, r"full_rank=true and rank=4 exclude each other"),
        ({"rank": D_MODEL + 1}, r"rank=23 must lie between 1 and d_model=22 \(null means head_dim=11\)"),
        ({"rank": 0}, r"rank=0 must lie between 1 and d_model=22"),
        ({"rank": -3}, r"rank=-3 must lie between 1"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        build_attention("low_rank_v", d_model=D_MODEL, num_heads=HEADS, **options)
