"""The linear maps of a module, found by probing, are those of its parameters."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from linear_in_heads import is_linear_in_heads
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import Attention, Mask, build_attention, merge_heads, record_patterns, register_attention, split_heads
from attnframe.attention import AttendCall, Observer, trace_attend
from attnframe.patterns import head_maps
from attnframe.patterns.head_maps import output_maps, value_maps

BATCH, QUERIES, KEYS, D_MODEL, D_CONTEXT, HEADS = 3, 5, 7, 22, 13, 2
EXACT = {"rtol": 0, "atol": 1e-11}


def by_hand(module: nn.Module) -> Tensor:
    """V of each head from the parameters, [heads, d_context, d_model]."""
    if hasattr(module, "value_down"):
        down, up = module.value_down.weight, module.value_up.weight
    elif hasattr(module, "output_proj"):
        down, up = module.value_proj.weight, module.output_proj.weight
    else:
        return torch.stack([part.T for part in module.value_proj.weight.chunk(HEADS)])
    ups = up.chunk(getattr(module, "num_heads", 1), dim=1)
    downs = down.split(ups[0].shape[1])
    # Consecutive heads may share one.
    return torch.stack([downs[head * len(downs) // len(ups)].T @ b.T for head, b in enumerate(ups)])


def has_a_value_map(module: Attention) -> bool:
    """Whether what is attended to is linear in its embedding, but for a bias, and ΔE in what is attended to."""
    one, other = torch.randn(2, 1, 1, D_MODEL, dtype=torch.float64)
    values: list[Tensor] = []

    class Log(Observer):
        def attended(self, module: Attention, call: AttendCall) -> None:
            values.append(call.v)

    with module.observed_by(Log()):
        for context in (torch.zeros_like(one), one, other, one + other):
            module(one, context, context)
    if len(values) != 4:
        return False
    nothing, first, second, both = values
    return torch.allclose(both + nothing, first + second, rtol=0, atol=1e-9) and is_linear_in_heads(module, D_MODEL)


@pytest.mark.of_attend
def test_the_value_map_is_the_product_of_its_matrices(
    variant_name: str, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    found = value_maps(module, d_model=D_MODEL, d_context=D_MODEL)
    assert (found is not None) is has_a_value_map(module)
    if found is not None:
        assert_close(found, by_hand(module).detach(), **EXACT)


@pytest.mark.parametrize(
    ("options", "rank"), [({"rank": 3}, 3), ({"full_rank": True}, D_MODEL), ({}, D_MODEL // HEADS)]
)
def test_the_value_map_of_low_rank_v_has_its_rank(
    options: dict[str, object], rank: int, build: Callable[..., Attention]
) -> None:
    module = build("low_rank_v", d_model=D_MODEL, num_heads=HEADS, **options)
    found = value_maps(module, d_model=D_MODEL, d_context=D_MODEL)
    assert found is not None
    assert_close(found, by_hand(module).detach(), **EXACT)
    assert torch.linalg.matrix_rank(found).tolist() == [rank] * HEADS


def test_another_width_of_context(build: Callable[..., Attention]) -> None:
    module = build("cross", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT)
    found = value_maps(module, d_model=D_MODEL, d_context=D_CONTEXT)
    assert found is not None
    assert found.shape == (HEADS, D_CONTEXT, D_MODEL)
    assert_close(found, by_hand(module).detach(), **EXACT)


@pytest.mark.of_attend
def test_the_deltas_of_all_heads_and_the_bias_are_what_is_returned(
    variant_name: str, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name).eval()
    x = torch.randn(BATCH, KEYS, D_MODEL, dtype=torch.float64, device=device)
    calls: list[AttendCall] = []

    class Log(Observer):
        def attended(self, module: Attention, call: AttendCall) -> None:
            calls.append(call)

    with module.observed_by(Log()):
        output = module(x, x, x, Mask(causal=True))
    maps = output_maps(module, calls, d_model=D_MODEL, d_context=D_MODEL)
    assert maps is not None
    deltas = maps.delta([call.output for call in calls])
    assert deltas.shape == (BATCH, calls[0].output.shape[1], KEYS, D_MODEL)
    if is_linear_in_heads(module, D_MODEL):
        assert_close(deltas.sum(1) + maps.bias, output, **EXACT)
    else:
        assert not torch.allclose(deltas.sum(1) + maps.bias, output), "which tells who asks"


class Probed(Attention):
    """Multi-head attention whose last step is up to the test."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.dropout = nn.Dropout(0.5)
        self.calls = 0

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        self.calls += 1
        q, k, v = (split_heads(x, self.num_heads) for x in (query, key, value))
        return self.last(merge_heads(self.attend(q, k, v, mask)), query)

    def last(self, heads: Tensor, query: Tensor) -> Tensor:
        return self.dropout(heads)


def test_asking_leaves_no_trace() -> None:
    register_attention("probed")(Probed)
    module = build_attention("probed", d_model=D_MODEL, num_heads=HEADS)
    calls = trace_attend(module, d_model=D_MODEL, d_context=D_MODEL)
    module.train()
    before, random_state = dict(vars(module)), torch.get_rng_state()
    with record_patterns(module, contributions=True) as patterns:
        assert value_maps(module, d_model=D_MODEL, d_context=D_MODEL) is not None
        assert output_maps(module, calls, d_model=D_MODEL, d_context=D_MODEL) is not None
    assert len(patterns) == 0
    assert vars(module) == before
    assert torch.equal(torch.get_rng_state(), random_state)
    assert module.dropout.training


class Restless(Probed):
    """Counts its calls in a buffer and draws random numbers."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__(d_model, num_heads)
        self.register_buffer("count", torch.zeros(()))

    def last(self, heads: Tensor, query: Tensor) -> Tensor:
        self.count += 1
        return heads * (1 + self.count) + torch.randn(())


def test_a_variant_that_counts_and_draws_goes_on_as_if_nobody_had_looked() -> None:
    register_attention("restless")(Restless)
    outputs = []
    for recording in (False, True):
        torch.manual_seed(3)
        module = build_attention("restless", d_model=D_MODEL, num_heads=HEADS)
        x = torch.ones(BATCH, QUERIES, D_MODEL)
        for _ in range(2):
            with record_patterns(module, contributions=True) if recording else contextlib.nullcontext():
                outputs.append(module(x, x, x))
        assert module.count == 2
    assert torch.equal(outputs[0], outputs[2])
    assert torch.equal(outputs[1], outputs[3])


def test_a_wide_module_is_asked_in_parts(monkeypatch: pytest.MonkeyPatch, build: Callable[..., Attention]) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS)
    calls = trace_attend(module, d_model=D_MODEL, d_context=D_MODEL)
    whole = output_maps(module, calls, d_model=D_MODEL, d_context=D_MODEL)
    monkeypatch.setattr(head_maps, "_MOST_AT_ONCE", 5)
    in_parts = output_maps(module, calls, d_model=D_MODEL, d_context=D_MODEL)
    assert whole is not None
    assert in_parts is not None
    assert_close(in_parts.maps, whole.maps, **EXACT)
    assert_close(in_parts.bias, whole.bias, **EXACT)


class Gated(Probed):
    def last(self, heads: Tensor, query: Tensor) -> Tensor:
        return heads * query.sigmoid()


class GatedAndSmall(Gated):
    def last(self, heads: Tensor, query: Tensor) -> Tensor:
        return 1e-4 * super().last(heads, query)


class Squared(Probed):
    def last(self, heads: Tensor, query: Tensor) -> Tensor:
        return heads.pow(2)


class Long(Probed):
    """Runs in batches of the test's size only."""

    def last(self, heads: Tensor, query: Tensor) -> Tensor:
        if heads.shape[0] not in (1, BATCH):
            raise ValueError("too many at once")
        return heads


class SquaredValues(Probed):
    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        return super().forward(query, key, value.pow(2) + value, mask)


@pytest.mark.parametrize("last", [Gated, GatedAndSmall, Squared, Long])
def test_what_is_not_linear_in_its_heads_has_no_contributions(last: type[Attention]) -> None:
    register_attention("last")(last)
    module = build_attention("last", d_model=D_MODEL, num_heads=HEADS).eval()
    x = torch.randn(BATCH, QUERIES, D_MODEL)
    with record_patterns(module, contributions=True) as patterns:
        module(x, x, x)
    assert patterns["", 0].contributions is None
    assert patterns["", 0].weights.shape == (BATCH, HEADS, QUERIES, QUERIES)


@pytest.mark.parametrize("variant", [Squared, SquaredValues, Gated, Long])
def test_what_is_no_one_map_of_its_values_has_no_value_map(variant: type[Attention]) -> None:
    register_attention("last")(variant)
    module = build_attention("last", d_model=D_MODEL, num_heads=HEADS)
    assert value_maps(module, d_model=D_MODEL, d_context=D_MODEL) is None
