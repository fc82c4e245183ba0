"""Collecting row statistics while modules run."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import Attention, Mask, build_attention, record_patterns, record_row_statistics, register_attention
from attnframe.attention import why_without_statistics

Build = Callable[..., Attention]

WITHOUT_SOFTMAX = {"entmax15", "sigmoid", "sink", "sparsemax", "talking_heads"}
OWN = {"additive", "linear"}


def forward(module: Attention, x: Tensor, mask: Mask) -> Tensor:
    torch.manual_seed(5)
    return module(x, x, x, mask)


def masks() -> Mask:
    return Mask(torch.tensor([[True] * 7, [False] + [True] * 4 + [False] * 2]), causal=True)


def test_collecting_changes_no_bit_of_outputs_gradients_and_random_numbers(variant_name: str, build: Build) -> None:
    module = build(variant_name, d_model=24, num_heads=4, dropout=0.3, dtype=torch.float32)
    x = torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(2))
    results = []
    for collecting in (False, True):
        with record_row_statistics(module) if collecting else torch.enable_grad():
            output = forward(module, x, masks())
        gradients = torch.autograd.grad(output.square().sum(), list(module.parameters()), allow_unused=True)
        results.append([output, torch.rand(3), *(g for g in gradients if g is not None)])
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_every_backend_runs_as_ever_and_gives_the_same_statistics(
    backend_name: str, build: Build, device: torch.device
) -> None:
    modules = [
        build("grouped_query", d_model=24, num_heads=6, num_kv_heads=3, backend=name, dtype=torch.float32)
        for name in (backend_name, "eager")
    ]
    x = torch.randn(2, 7, 24, device=device)
    mask = Mask(torch.tensor([[True] * 7, [False] + [True] * 6], device=device), causal=True)
    with torch.no_grad():
        expected = modules[0](x, x, x, mask)
        found = []
        for module in modules:
            with record_row_statistics(module) as rows:
                output = module(x, x, x, mask)
            found += rows["", 0]
            if module is modules[0]:
                assert torch.equal(output, expected)
    assert modules[0].backends_used() == {backend_name}
    assert found[0].lse.shape == (2, 6, 7)
    for name in ("lse", "max_score", "entropy"):
        assert_close(getattr(found[0], name), getattr(found[1], name), rtol=0, atol=1e-5)


def test_the_statistics_are_those_of_the_recorded_weights(variant_name: str, build: Build) -> None:
    module = build(variant_name, d_model=24, num_heads=4)
    if why_without_statistics(module, d_model=24, d_context=24) or variant_name == "differential":
        pytest.skip("its pattern is not the softmax of one call")
    x = torch.randn(2, 7, 24, dtype=torch.float64)
    with record_patterns(module) as patterns, record_row_statistics(module) as rows:
        forward(module, x, masks())
    (statistics,) = rows["", 0]
    entropy = torch.special.entr(patterns["", 0].weights).sum(-1)
    assert_close(statistics.entropy.detach(), entropy, rtol=0, atol=1e-12)


def test_what_has_no_statistics_says_why(variant_name: str, build: Build) -> None:
    module = build(variant_name, d_model=24, num_heads=4)
    why = why_without_statistics(module, d_model=24, d_context=24)
    assert ("normaliser" in why) == (variant_name in WITHOUT_SOFTMAX)
    assert ("itself" in why) == (variant_name in OWN)
    assert bool(why) == (variant_name in WITHOUT_SOFTMAX | OWN)
    x = torch.randn(2, 7, 24, dtype=torch.float64)
    with record_row_statistics(module) as rows:
        module(x, x, x)
    assert bool(rows) == (not why)
    assert bool(rows.missing) == (variant_name in WITHOUT_SOFTMAX)


def test_each_call_of_each_module_in_its_place() -> None:
    model = nn.ModuleList(build_attention(name, d_model=24, num_heads=4) for name in ("multi_head", "differential"))
    for layer, module in enumerate(model):
        assert isinstance(module, Attention)
        module.site, module.layer = "cross", layer
    x = torch.randn(2, 7, 24)
    with record_row_statistics(model) as rows:
        for module in model:
            module(x, x, x)
    assert {place: len(calls) for place, calls in rows.items()} == {("cross", 0): 1, ("cross", 1): 2}
    assert rows["cross", 0][0].entropy.requires_grad
    assert not rows["cross", 0][0].max_score.requires_grad
    with record_row_statistics(model, differentiable=False) as detached:
        model[0](x, x, x)
    (statistics,) = detached["cross", 0]
    assert not any(part.requires_grad for part in (statistics.lse, statistics.max_score, statistics.entropy))
    model[0](x, x, x)
    assert len(detached["cross", 0]) == 1


def test_attention_that_folds_its_queries_is_found_out() -> None:
    @register_attention("folding")
    class Folding(Attention):
        """Each query a sentence of its own."""

        def __init__(self, d_model: int) -> None:
            super().__init__()

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            x = query.reshape(-1, 1, 1, query.shape[-1])
            return self.attend(x, x, x, Mask().bind(len(x), 1, 1, x.device)).reshape(query.shape)

    module = build_attention("folding", d_model=24, num_heads=4)
    assert "other queries" in why_without_statistics(module, d_model=24, d_context=24)


def test_a_copy_made_while_collecting_collects_nothing() -> None:
    module = build_attention("multi_head", d_model=24, num_heads=4)
    x = torch.randn(2, 7, 24)
    with record_row_statistics(module) as rows:
        for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            twin(x, x, x)
    assert not rows
