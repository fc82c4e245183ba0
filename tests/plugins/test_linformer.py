"""Linformer against its formula by loops, and what it refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention, record_patterns
from attnframe.attention import PatternKind

BATCH, QUERIES, KEYS, D_MODEL, HEADS, D_CONTEXT, RANK = 3, 5, 7, 22, 2, 13, 4
LENGTHS = (4, KEYS, 0)
PADDING = Mask(key_keep=torch.arange(KEYS) < torch.tensor(LENGTHS)[:, None])


def by_loops(module: Attention, query: Tensor, context: Tensor, lengths: tuple[int, ...]) -> Tensor:
    size = D_MODEL // HEADS
    q, k, v = module.query_proj(query), module.key_proj(context), module.value_proj(context)
    rows = []
    for b in range(BATCH):
        for i in range(QUERIES):
            heads = []
            for h in range(HEADS):
                part = slice(size * h, size * (h + 1))
                zero = torch.zeros(size, dtype=torch.float64)
                scores, values = [], []
                for r in range(RANK):
                    mixed_k = sum((module.key_mix[r, j] * k[b, j, part] for j in range(lengths[b])), start=zero)
                    scores.append((q[b, i, part] @ mixed_k / size**0.5).exp())
                    values.append(sum((module.value_mix[r, j] * v[b, j, part] for j in range(lengths[b])), start=zero))
                heads.append(sum(score / sum(scores) * one for score, one in zip(scores, values, strict=True)))
            rows.append(module.output_proj(torch.cat(heads)))
    return torch.stack(rows).view(BATCH, QUERIES, D_MODEL)


@pytest.mark.parametrize("padded", [False, True])
def test_it_is_the_formula(padded: bool, backend_name: str, build: Callable[..., Attention]) -> None:
    arguments = {"d_model": D_MODEL, "num_heads": HEADS, "d_context": D_CONTEXT, "rank": RANK, "max_length": 11}
    module = build("linformer", backend=backend_name, **arguments)
    torch.manual_seed(11)
    query = torch.randn(BATCH, QUERIES, D_MODEL, dtype=torch.float64, requires_grad=True)
    context = torch.randn(BATCH, KEYS, D_CONTEXT, dtype=torch.float64, requires_grad=True)
    output = module(query, context, context, PADDING if padded else Mask())
    expected = by_loops(module, query, context, LENGTHS if padded else (KEYS,) * BATCH)
    assert_close(output, expected, rtol=0, atol=1e-12)
    cotangent = torch.randn_like(output)
    variables = [query, context, *module.parameters()]
    for one, other in zip(
        torch.autograd.grad(output, variables, cotangent),
        torch.autograd.grad(expected, variables, cotangent),
        strict=True,
    ):
        assert_close(one, other, rtol=0, atol=1e-10)


def test_with_as_many_mixtures_as_keys_that_mix_nothing_it_is_multi_head(build: Callable[..., Attention]) -> None:
    module = build("linformer", d_model=D_MODEL, num_heads=HEADS, rank=KEYS, max_length=KEYS)
    plain = build("multi_head", d_model=D_MODEL, num_heads=HEADS)
    plain.load_state_dict({name: x for name, x in module.state_dict().items() if not name.endswith("_mix")})
    with torch.no_grad():
        module.key_mix.copy_(torch.eye(KEYS))
        module.value_mix.copy_(torch.eye(KEYS))
    x = torch.randn(BATCH, KEYS, D_MODEL, dtype=torch.float64)
    assert_close(module(x, x, x), plain(x, x, x), rtol=0, atol=1e-10)


def test_its_pattern_is_over_tokens_and_is_its_output(build: Callable[..., Attention]) -> None:
    module = build("linformer", d_model=D_MODEL, num_heads=HEADS, rank=RANK)
    query, context = (torch.randn(BATCH, n, D_MODEL, dtype=torch.float64) for n in (QUERIES, KEYS))
    for mask in (Mask(), PADDING):
        with record_patterns(module) as patterns:
            output = module(query, context, context, mask)
        pattern = patterns["", 0]
        assert pattern.kind is PatternKind.SIGNED
        assert pattern.weights.shape == (BATCH, HEADS, QUERIES, KEYS)
        v = module.value_proj(context).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        heads = (pattern.weights @ v).transpose(1, 2).flatten(-2)
        assert_close(output, module.output_proj(heads), rtol=0, atol=1e-10)
        if mask.key_keep is not None:
            assert not pattern.weights.masked_select(~mask.key_keep[:, None, None]).any()


def test_it_refuses_what_it_has_no_form_for() -> None:
    module = build_attention("linformer", d_model=D_MODEL, num_heads=HEADS, max_length=6)
    module.site = "decoder_self"
    x = torch.randn(1, 6, D_MODEL)
    with pytest.raises(UserError, match="linformer cannot keep to a causal mask"):
        module(x, x, x, Mask(causal=True))
    with pytest.raises(UserError, match="cannot keep to a window"):
        module(x, x, x, Mask(window=2))
    longer = torch.randn(1, 7, D_MODEL)
    with pytest.raises(UserError, match="linformer mixes at most max_length=6 keys, and there are 7"):
        module(x, longer, longer)


@pytest.mark.parametrize("option", ["rank", "max_length"])
def test_sizes_below_1_are_refused(option: str) -> None:
    with pytest.raises(UserError, match=f"{option}=0 must be at least 1"):
        build_attention("linformer", d_model=D_MODEL, num_heads=HEADS, **{option: 0})
