"""Additive attention against its formula, written as loops over queries, keys and hidden units."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention, record_patterns

BATCH, QUERIES, KEYS, D_MODEL, HEADS, D_CONTEXT, HIDDEN = 3, 5, 7, 22, 2, 13, 3
LENGTHS = (4, KEYS, 0)
MASKS = {"open": (False, False, 0), "causal": (True, False, 0), "padded": (False, True, 0), "all": (True, True, 2)}


def mask_of(kind: str) -> Mask:
    causal, padded, offset = MASKS[kind]
    keep = torch.arange(KEYS) < torch.tensor(LENGTHS)[:, None]
    return Mask(key_keep=keep if padded else None, causal=causal, query_offset=offset)


def by_loops(module: Attention, query: Tensor, context: Tensor, kind: str) -> Tensor:
    causal, padded, offset = MASKS[kind]
    size = D_MODEL // HEADS
    w, u, values = module.query_proj(query), module.key_proj(context), module.value_proj(context)
    rows = []
    for b in range(BATCH):
        for i in range(QUERIES):
            heads = []
            seen = [j for j in range(KEYS) if not (causal and j > i + offset) and not (padded and j >= LENGTHS[b])]
            for h in range(HEADS):
                energies = []
                for j in seen:
                    units = [
                        module.score[h, n] * torch.tanh(w[b, i, HIDDEN * h + n] + u[b, j, HIDDEN * h + n])
                        for n in range(HIDDEN)
                    ]
                    energies.append(torch.stack(units).sum().exp())
                total = sum(energies)
                head = torch.zeros(size, dtype=torch.float64)
                for j, energy in zip(seen, energies, strict=True):
                    head = head + energy / total * values[b, j, size * h : size * (h + 1)]
                heads.append(head)
            rows.append(module.output_proj(torch.cat(heads)))
    return torch.stack(rows).view(BATCH, QUERIES, D_MODEL)


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(11)
    return torch.randn(BATCH, QUERIES, D_MODEL, dtype=dtype), torch.randn(BATCH, KEYS, D_CONTEXT, dtype=dtype)


@pytest.mark.parametrize("kind", MASKS)
def test_it_is_the_formula(kind: str, build: Callable[..., Attention]) -> None:
    module = build("additive", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT, hidden=HIDDEN)
    tensors = [x.requires_grad_() for x in inputs()]
    output, expected = module(*tensors, tensors[1], mask_of(kind)), by_loops(module, *tensors, kind)
    assert_close(output, expected, rtol=0, atol=1e-12)
    cotangent = torch.randn_like(output)
    variables = [*tensors, *module.parameters()]
    for one, other in zip(
        torch.autograd.grad(output, variables, cotangent),
        torch.autograd.grad(expected, variables, cotangent),
        strict=True,
    ):
        assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", MASKS)
def test_in_float32_too(kind: str, build: Callable[..., Attention]) -> None:
    arguments = {"d_model": D_MODEL, "num_heads": HEADS, "d_context": D_CONTEXT, "hidden": HIDDEN}
    module = build("additive", dtype=torch.float32, **arguments)
    query, context = inputs(torch.float32)
    output = module(query, context, context, mask_of(kind))
    expected = by_loops(module.double(), query.double(), context.double(), kind)
    assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)


def test_no_score_is_further_from_0_than_the_units_add_up_to(build: Callable[..., Attention]) -> None:
    """However large the embeddings are: each unit lies between -1 and 1, so no key can have all the weight."""
    module = build("additive", d_model=D_MODEL, num_heads=HEADS)
    x = 1e6 * torch.randn(BATCH, KEYS, D_MODEL, dtype=torch.float64)
    with record_patterns(module) as patterns:
        module(x, x, x)
    weights = patterns["", 0].weights
    most = module.score.abs().sum(-1)[:, None, None]
    assert (weights.log() - weights.log().amin(-1, keepdim=True) <= 2 * most + 1e-9).all()


def test_hidden_is_head_dim_unless_given(build: Callable[..., Attention]) -> None:
    for hidden, units in ((None, D_MODEL // HEADS), (HIDDEN, HIDDEN)):
        module = build("additive", d_model=D_MODEL, num_heads=HEADS, hidden=hidden)
        assert module.score.shape == (HEADS, units)
        assert module.query_proj.weight.shape == module.key_proj.weight.shape == (HEADS * units, D_MODEL)


def test_no_units_are_refused() -> None:
    with pytest.raises(UserError, match=r"hidden=0 must be at least 1 .* \(null means head_dim=11\)"):
        build_attention("additive", d_model=D_MODEL, num_heads=HEADS, hidden=0)
