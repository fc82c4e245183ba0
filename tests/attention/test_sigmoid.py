"""Sigmoid attention: each key by itself, with a bias of -ln n."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from agreement import BATCH, MASKS, TOKENS, assert_same, dense
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, record_patterns

D_MODEL, HEADS, D_CONTEXT = 22, 2, 13


def _in_loops(module: Attention, keep: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """The formula, a query, a head and a key at a time."""
    size = D_MODEL // HEADS
    q, k, v = module.query_proj(query), module.key_proj(key), module.value_proj(value)
    rows = []
    for b in range(BATCH):
        for i in range(TOKENS):
            seen = [j for j in range(TOKENS) if keep[b, 0, i, j]]
            heads = []
            for head in range(HEADS):
                part = slice(size * head, size * (head + 1))
                total = torch.zeros(size, dtype=query.dtype)
                for j in seen:
                    score = (q[b, i, part] * k[b, j, part]).sum() / math.sqrt(size)
                    total = total + v[b, j, part] / (1 + len(seen) * torch.exp(-score))
                heads.append(total)
            rows.append(torch.cat(heads))
    return module.output_proj(torch.stack(rows).reshape(BATCH, TOKENS, D_MODEL))


@pytest.mark.parametrize("mask_name", MASKS)
def test_equals_the_formula_in_loops(mask_name: str, build: Callable[..., Attention]) -> None:
    module, mask = build("sigmoid", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT), MASKS[mask_name]
    inputs = [torch.randn(BATCH, TOKENS, width, dtype=torch.float64) for width in (D_MODEL, D_CONTEXT, D_CONTEXT)]
    assert_same(
        lambda *x: module(*x, mask),
        lambda *x: _in_loops(module, dense(mask), *x),
        inputs,
        rtol=0.0,
        atol=1e-10,
    )


def test_a_key_weighs_the_same_whatever_other_keys_score(build: Callable[..., Attention]) -> None:
    module = build("sigmoid", d_model=D_MODEL, num_heads=HEADS)
    x = torch.randn(BATCH, TOKENS, D_MODEL, dtype=torch.float64)
    other = x.clone()
    other[:, 3] *= 5
    patterns = []
    for key in (x, other):
        with record_patterns(module) as recorded:
            module(x, key, x)
        patterns.append(recorded["", 0].weights)
    others = [j for j in range(TOKENS) if j != 3]
    assert_close(patterns[0][..., others], patterns[1][..., others], rtol=0.0, atol=1e-12)
    assert (patterns[0][..., 3] - patterns[1][..., 3]).abs().max() > 0.1


@pytest.mark.parametrize("mask_name", MASKS)
def test_without_scores_a_row_of_n_keys_has_the_mass_n_over_n_plus_1(
    mask_name: str, build: Callable[..., Attention]
) -> None:
    module, mask = build("sigmoid", d_model=D_MODEL, num_heads=HEADS), MASKS[mask_name]
    torch.nn.init.zeros_(module.query_proj.weight)
    torch.nn.init.zeros_(module.query_proj.bias)
    x = torch.randn(BATCH, TOKENS, D_MODEL, dtype=torch.float64)
    with record_patterns(module) as recorded:
        module(x, x, x, mask)
    assert recorded["", 0].kind == "unnormalised"
    n = dense(mask).sum(-1).double()
    assert_close(recorded["", 0].weights.sum(-1), (n / (n + 1)).expand(BATCH, HEADS, TOKENS))


def test_the_bias_is_right_for_more_keys_than_half_precision_can_count(build: Callable[..., Attention]) -> None:
    keys = 70_001
    module = build("sigmoid", d_model=2, num_heads=1, dtype=torch.float16)
    torch.nn.init.zeros_(module.query_proj.weight)
    torch.nn.init.zeros_(module.query_proj.bias)
    x = torch.ones(1, keys, 2, dtype=torch.float16)
    with record_patterns(module) as recorded:
        module(x[:, :1], x, x)
    assert_close(recorded["", 0].weights.sum(), torch.tensor(keys / (keys + 1)), rtol=1e-4, atol=0.0)
