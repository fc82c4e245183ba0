"""Contributions are the norms of the vectors that add up to ΔE, worked out here one by one."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from linear_in_heads import is_linear_in_heads
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import Attention, Mask, build_attention, merge_heads, record_patterns, register_attention, split_heads
from attnframe.attention import zero_heads

BATCH, QUERIES, KEYS, D_MODEL, HEADS = 3, 5, 7, 22, 2
EXACT = {"rtol": 0, "atol": 1e-11}


def padded(device: torch.device) -> Mask:
    """One sentence with padding, one without, one that is nothing but padding."""
    return Mask(torch.tensor([[j < n for j in range(KEYS)] for n in (4, KEYS, 0)], device=device))


def embeddings(device: torch.device) -> tuple[Tensor, Tensor]:
    torch.manual_seed(7)
    shape = {"dtype": torch.float64, "device": device}
    return torch.randn(BATCH, QUERIES, D_MODEL, **shape), torch.randn(BATCH, KEYS, D_MODEL, **shape)


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_they_are_the_norms_of_what_each_key_adds(
    backend_name: str, dropout: float, build: Callable[..., Attention], device: torch.device
) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS, backend=backend_name, dropout=dropout)
    query, context = embeddings(device)
    with record_patterns(module, contributions=True) as patterns:
        module(query, context, context, padded(device))
    weights, found, together = (
        patterns["", 0].weights,
        patterns["", 0].contributions,
        patterns["", 0].joint_contributions,
    )
    assert found is not None
    assert together is not None
    head_dim = D_MODEL // HEADS
    values, output = module.value_proj(context), module.output_proj.weight
    for b, i, j in itertools.product(range(BATCH), range(QUERIES), range(KEYS)):
        whole = torch.zeros(D_MODEL, dtype=torch.float64, device=device)
        for h in range(HEADS):
            rows = slice(h * head_dim, (h + 1) * head_dim)
            delta = weights[b, h, i, j] * values[b, j, rows] @ output[:, rows].T
            assert_close(found[b, h, i, j], delta.norm().detach(), **EXACT)
            whole += delta.detach()
        assert_close(together[b, i, j], whole.norm(), **EXACT)


@pytest.mark.of_attend
def test_every_backend_and_variant_has_them(
    variant_name: str, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    found = []
    for backend in (backend_name, "eager"):
        module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend).eval()
        query, context = embeddings(device)
        with record_patterns(module, contributions=True) as patterns:
            module(query, context, context, padded(device))
        contributions = patterns["", 0].contributions
        if not is_linear_in_heads(module, D_MODEL):
            assert contributions is None
            return
        assert contributions is not None
        assert contributions.shape == patterns["", 0].weights.shape
        assert (contributions[2] == 0).all(), "nothing may be attended to in the third sentence"
        assert ((contributions > 0) == (patterns["", 0].weights != 0)).all()
        found.append(contributions)
    assert_close(found[0], found[1], **EXACT)


@pytest.mark.of_attend
def test_a_lone_key_adds_all_of_delta(variant_name: str, build: Callable[..., Attention]) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, bias=False)
    query, context = embeddings(torch.device("cpu"))
    with record_patterns(module, contributions=True) as patterns:
        delta = module(query, context[:, :1], context[:, :1])
    together = patterns["", 0].joint_contributions
    if not is_linear_in_heads(module, D_MODEL):
        assert together is None
        return
    assert together is not None
    assert_close(together[..., 0], delta.norm(dim=-1).detach(), **EXACT)


class Difference(Attention):
    """Two maps, the second taken off the first; the two read values of their own."""

    def __init__(self, d_model: int, num_heads: int, *, share: float = 0.3) -> None:
        super().__init__()
        self.num_heads, self.share = num_heads, share
        self.key_proj, self.value_proj, self.output_proj = (nn.Linear(d_model, d_model) for _ in range(3))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, other_k = (split_heads(x, self.num_heads) for x in (query, self.key_proj(key), key))
        v, other_v = split_heads(self.value_proj(value), self.num_heads), split_heads(value, self.num_heads)
        heads = self.attend(q, k, v, mask) - self.share * self.attend(q, other_k, other_v, mask)
        self.report_pattern(lambda one, other: one - self.share * other, "signed", mass=1 - self.share)
        return self.output_proj(merge_heads(heads))


def test_two_attends_add_up_before_the_norm_is_taken(device: torch.device) -> None:
    register_attention("difference")(Difference)
    torch.manual_seed(0)
    module = build_attention("difference", d_model=D_MODEL, num_heads=HEADS).double().to(device)
    query, context = embeddings(device)
    with record_patterns(module, contributions=True) as patterns:
        module(query, context, context)
    found = patterns["", 0].contributions
    assert found is not None
    head_dim = D_MODEL // HEADS
    q, k, other_k = (split_heads(x, HEADS) for x in (query, module.key_proj(context), context))
    one, other = ((q @ x.mT / head_dim**0.5).softmax(-1) for x in (k, other_k))
    assert_close(patterns["", 0].weights, (one - 0.3 * other).detach(), **EXACT)
    v, other_v = split_heads(module.value_proj(context), HEADS), split_heads(context, HEADS)
    whole = torch.zeros(())
    for h in range(HEADS):
        output = module.output_proj.weight[:, h * head_dim : (h + 1) * head_dim]
        vectors = one[:, h, :, :, None] * v[:, h, None] - 0.3 * other[:, h, :, :, None] * other_v[:, h, None]
        added = vectors @ output.T
        assert_close(found[:, h], added.norm(dim=-1).detach(), rtol=0, atol=1e-9)
        whole = whole + added
    together = patterns["", 0].joint_contributions
    assert together is not None
    assert_close(together, whole.norm(dim=-1).detach(), rtol=0, atol=1e-9)


def test_parts_that_nearly_cancel(device: torch.device) -> None:
    register_attention("difference")(Difference)
    found = []
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(0)
        module = build_attention("difference", d_model=D_MODEL, num_heads=HEADS, share=1 - 1e-4).to(device)
        with torch.no_grad():
            for proj in (module.key_proj, module.value_proj):
                proj.weight.copy_(torch.eye(D_MODEL))  # so that both maps read the same
                proj.bias.zero_()
        query, context = embeddings(device)
        with record_patterns(module.to(dtype), contributions=True) as patterns:
            module(query.to(dtype), context.to(dtype), context.to(dtype))
        contributions = patterns["", 0].contributions
        assert contributions is not None
        found.append(contributions.double())
    assert_close(found[0], found[1], rtol=0.02, atol=0)


def test_they_are_not_looked_for_unasked(build: Callable[..., Attention]) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS)
    query, context = embeddings(torch.device("cpu"))
    with record_patterns(module) as patterns:
        module(query, context, context)
    assert patterns["", 0].contributions is None


def test_what_an_intervention_changed_has_none(build: Callable[..., Attention]) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS)
    query, context = embeddings(torch.device("cpu"))
    with record_patterns(module, contributions=True) as patterns, module.changed_by(zero_heads([1])):
        module(query, context, context)
    assert patterns["", 0].contributions is None
