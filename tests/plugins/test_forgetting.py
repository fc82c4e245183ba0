"""Forgetting attention against its formula, with every gate between query and key multiplied one by one."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention

BATCH, QUERIES, KEYS, D_MODEL, HEADS, D_CONTEXT = 3, 5, 7, 22, 2, 13
LENGTHS = (4, KEYS, 0)
MASKS = {"open": (False, False, 0), "causal": (True, False, 0), "padded": (False, True, 0), "all": (True, True, 4)}


def mask_of(kind: str) -> Mask:
    causal, padded, offset = MASKS[kind]
    keep = torch.arange(KEYS) < torch.tensor(LENGTHS)[:, None]
    return Mask(key_keep=keep if padded else None, causal=causal, query_offset=offset)


def by_loops(module: Attention, query: Tensor, context: Tensor, kind: str) -> Tensor:
    causal, padded, offset = MASKS[kind]
    size = D_MODEL // HEADS
    q, k, v = module.query_proj(query), module.key_proj(context), module.value_proj(context)
    gates = module.forget_proj(context).sigmoid()
    rows = []
    for b in range(BATCH):
        real = LENGTHS[b] if padded else KEYS
        for i in range(QUERIES):
            position, heads = i + offset, []
            for h in range(HEADS):
                part = slice(size * h, size * (h + 1))
                numerators = []
                for j in range(real):
                    if causal and j > position:
                        break
                    here = min(position, KEYS - 1)
                    remembered = torch.ones((), dtype=torch.float64)
                    for token in range(min(here, j) + 1, min(max(here, j) + 1, real)):
                        remembered = remembered * gates[b, token, h]
                    numerators.append(remembered * (q[b, i, part] @ k[b, j, part] / size**0.5).exp())
                head = torch.zeros(size, dtype=torch.float64)
                for j, numerator in enumerate(numerators):
                    head = head + numerator / sum(numerators) * v[b, j, part]
                heads.append(head)
            rows.append(module.output_proj(torch.cat(heads)))
    return torch.stack(rows).view(BATCH, QUERIES, D_MODEL)


@pytest.mark.parametrize("kind", MASKS)
def test_it_is_the_formula(kind: str, build: Callable[..., Attention]) -> None:
    module = build("forgetting", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT)
    torch.manual_seed(11)
    query = torch.randn(BATCH, QUERIES, D_MODEL, dtype=torch.float64, requires_grad=True)
    context = torch.randn(BATCH, KEYS, D_CONTEXT, dtype=torch.float64, requires_grad=True)
    output, expected = module(query, context, context, mask_of(kind)), by_loops(module, query, context, kind)
    assert_close(output, expected, rtol=0, atol=1e-12)
    cotangent = torch.randn_like(output)
    variables = [query, context, *module.parameters()]
    for one, other in zip(
        torch.autograd.grad(output, variables, cotangent),
        torch.autograd.grad(expected, variables, cotangent),
        strict=True,
    ):
        assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("causal", [True, False])
def test_without_forgetting_it_is_multi_head(causal: bool, build: Callable[..., Attention]) -> None:
    module, plain = (build(name, d_model=D_MODEL, num_heads=HEADS) for name in ("forgetting", "multi_head"))
    plain.load_state_dict({name: x for name, x in module.state_dict().items() if not name.startswith("forget_proj")})
    with torch.no_grad():
        module.forget_proj.weight.zero_()
        module.forget_proj.bias.fill_(60.0)
    x = torch.randn(BATCH, KEYS, D_MODEL, dtype=torch.float64)
    assert_close(module(x, x, x, Mask(causal=causal)), plain(x, x, x, Mask(causal=causal)), rtol=0, atol=1e-10)


def test_a_token_that_forgets_all_hides_what_lies_before_it(build: Callable[..., Attention]) -> None:
    module = build("forgetting", d_model=D_MODEL, num_heads=HEADS)
    with torch.no_grad():
        module.forget_proj.weight.zero_()
        module.forget_proj.weight[:, 0] = -1.0
        module.forget_proj.bias.zero_()
        # The first feature is there for the gates alone.
        for projection in (module.query_proj, module.key_proj, module.value_proj):
            projection.weight[:, 0] = 0.0
    x = torch.randn(BATCH, KEYS, D_MODEL, dtype=torch.float64)
    x[:, 3, 0] = 1e3
    other = x.clone()
    other[:, :3, 1:] += 1.0
    mask = Mask(causal=True)
    assert_close(module(other, other, other, mask)[:, 3:], module(x, x, x, mask)[:, 3:], rtol=0, atol=1e-12)


@pytest.mark.parametrize("half_life", [8.0, 1.0, 30.0])
def test_a_new_gate_halves_in_its_half_life(half_life: float) -> None:
    module = build_attention("forgetting", d_model=D_MODEL, num_heads=HEADS, half_life=half_life)
    gate = module.forget_proj.bias.sigmoid()
    assert_close(gate**half_life, torch.full((HEADS,), 0.5), rtol=1e-5, atol=0)


@pytest.mark.parametrize("half_life", [0.0, -3.0, float("inf")])
def test_no_half_life_is_refused(half_life: float) -> None:
    with pytest.raises(UserError, match=rf"half_life={half_life} must be a number of tokens above 0"):
        build_attention("forgetting", d_model=D_MODEL, num_heads=HEADS, half_life=half_life)
