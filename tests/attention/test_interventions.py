"""Heads that are silenced or made uniform: the module is then what its formula says, and afterwards what it was."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from linear_in_heads import is_linear_in_heads
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import (
    Attention,
    Mask,
    UserError,
    merge_heads,
    record_patterns,
    split_heads,
)
from attnframe.attention import AttendCall, Observer, intervene, uniform_heads, zero_heads

BATCH, QUERIES, KEYS, D_MODEL, HEADS = 3, 5, 7, 22, 2
EXACT = {"rtol": 0.0, "atol": 1e-10}
Build = Callable[..., Attention]

KEEP = torch.tensor([[True] * 7, [True, False, True, True, False, False, False], [False] * 7])
# name: (mask, whether query i may attend to key j in sentence b)
MASKS: dict[str, tuple[Mask, Callable[[int, int, int], bool]]] = {
    "none": (Mask(), lambda b, i, j: True),
    "padded": (Mask(key_keep=KEEP), lambda b, i, j: bool(KEEP[b, j])),
    "causal": (Mask(causal=True), lambda b, i, j: j <= i),
    "padded_causal": (Mask(key_keep=KEEP, causal=True), lambda b, i, j: bool(KEEP[b, j]) and j <= i),
    "behind_a_window": (Mask(window=1, query_offset=4), lambda b, i, j: abs(j - i - 4) <= 1),
}


def embeddings(device: torch.device, **options: bool) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    query = torch.randn(BATCH, QUERIES, D_MODEL, dtype=torch.float64, device=device, **options)
    context = torch.randn(BATCH, KEYS, D_MODEL, dtype=torch.float64, device=device, **options)
    return query, context


def on(device: torch.device, mask: Mask) -> Mask:
    keep = None if mask.key_keep is None else mask.key_keep.to(device)
    return Mask(keep, mask.causal, mask.window, mask.query_offset)


class LastCall(Observer):
    """The v of the only `attend`, and how many heads it has."""

    v: Tensor
    heads: int

    def attended(self, module: Attention, call: AttendCall) -> None:
        self.v, self.heads = call.v, call.output.shape[1]


def output_map(module: Attention, query: Tensor, context: Tensor) -> tuple[nn.Linear, LastCall]:
    """The linear map behind the heads, which is the last that runs, and the call before it."""
    ran: list[nn.Linear] = []
    hooks = [
        child.register_forward_hook(lambda child, *_: ran.append(child))
        for child in module.modules()
        if isinstance(child, nn.Linear)
    ]
    call = LastCall()
    with module.observed_by(call):
        module(query, context, context)
    for hook in hooks:
        hook.remove()
    return ran[-1], call


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.of_attend
def test_a_silent_head_is_one_without_its_rows_of_w_o(
    variant_name: str, backend_name: str, name: str, build: Build, device: torch.device
) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    query, context = embeddings(device)
    mask = on(device, MASKS[name][0])
    last, call = output_map(module, query, context)
    whole = last.weight.detach().clone()
    for head in range(call.heads):
        with module.changed_by(zero_heads([head])):
            silent = module(query, context, context, mask)
        with torch.no_grad():
            last.weight.view(D_MODEL, call.heads, -1)[:, head] = 0
        assert_close(silent, module(query, context, context, mask), **EXACT)
        with torch.no_grad():
            last.weight.copy_(whole)
        assert not torch.isclose(silent, module(query, context, context, mask), atol=1e-4).all()


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.of_attend
def test_without_any_head_the_output_bias_is_left(
    variant_name: str, backend_name: str, name: str, build: Build, device: torch.device
) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    query, context = embeddings(device)
    last, call = output_map(module, query, context)
    for heads in (None, range(call.heads)):
        with module.changed_by(zero_heads(heads)):
            output = module(query, context, context, on(device, MASKS[name][0]))
        assert_close(output, last.bias.expand(BATCH, QUERIES, D_MODEL), **EXACT)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.of_attend
def test_a_uniform_head_says_the_mean_of_what_it_may_attend_to(
    variant_name: str, backend_name: str, name: str, build: Build, device: torch.device
) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    if not is_linear_in_heads(module, D_MODEL):
        pytest.skip(f"what {variant_name} makes of its heads is no linear map that is the same for every query")
    query, context = embeddings(device)
    mask, may_attend = MASKS[name]
    last, call = output_map(module, query, context)
    means = torch.zeros(BATCH, call.heads, QUERIES, call.v.shape[-1], dtype=torch.float64, device=device)
    for b in range(BATCH):
        for i in range(QUERIES):
            if keys := [j for j in range(KEYS) if may_attend(b, i, j)]:
                means[b, :, i] = sum(call.v[b, :, j] for j in keys) / len(keys)
    with module.changed_by(uniform_heads()):
        output = module(query, context, context, on(device, mask))
    assert_close(output, last(means.transpose(1, 2).flatten(2)), **EXACT)
    # One head alone: the other ones go on as they did.
    with module.changed_by(zero_heads([0])):
        others = module(query, context, context, on(device, mask))
    alone = nn.functional.linear(means[:, 0], last.weight.view(D_MODEL, call.heads, -1)[:, 0])
    with module.changed_by(uniform_heads([0])):
        assert_close(module(query, context, context, on(device, mask)), others + alone, **EXACT)


def test_uniform_multi_head_is_the_variant_uniform(backend_name: str, build: Build, device: torch.device) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    uniform = build("uniform", d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    uniform.load_state_dict({key: module.state_dict()[key] for key in uniform.state_dict()})
    query, context = embeddings(device)
    mask = on(device, MASKS["padded_causal"][0])
    with module.changed_by(uniform_heads()):
        assert_close(module(query, context, context, mask), uniform(query, context, context, mask), **EXACT)


def test_each_head_of_full_rank_values_can_be_silenced(build: Build, device: torch.device) -> None:
    module = build("low_rank_v", d_model=D_MODEL, num_heads=HEADS, full_rank=True)
    query, context = embeddings(device)
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.value_proj.weight[D_MODEL:] = 0
    with module.changed_by(zero_heads({1})):
        assert_close(module(query, context, context), other(query, context, context), **EXACT)


def attend(change: Callable[[AttendCall], Tensor], v: Tensor, **mods: Callable[..., Tensor]) -> Tensor:
    """Four heads that share two of keys and values."""
    module = Attention()
    module.backend = "eager"
    torch.manual_seed(2)
    q, k = (torch.randn(2, heads, 5, 3, dtype=v.dtype, device=v.device) for heads in (4, 2))
    with module.changed_by(change):
        return module.attend(q, k, v, Mask().bind(2, 5, 5, v.device), **mods)


def test_what_score_and_mask_mods_forbid_stays_forbidden(device: torch.device) -> None:
    torch.manual_seed(1)
    v = torch.randn(2, 2, 5, 3, dtype=torch.float64, device=device)

    def score_mod(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        # A bias that is finite plays no part, and query 3 of head 2 may attend to nothing.
        return torch.where((j == 1) | ((i == 3) & (h == 2)), -torch.inf, score - 7.0 * j * (h + 1))

    output = attend(uniform_heads(), v, score_mod=score_mod, mask_mod=lambda b, h, i, j: j != 4)
    for head in range(4):
        mean = (v[:, head // 2, 0] + v[:, head // 2, 2] + v[:, head // 2, 3]) / 3
        for query in range(5):
            expected = torch.zeros_like(mean) if (query, head) == (3, 2) else mean
            assert_close(output[:, head, query], expected, **EXACT)


def test_interventions_nest_and_the_inner_one_has_the_last_word(build: Build, device: torch.device) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS)
    query, context = embeddings(device)
    untouched = module(query, context, context)

    def run(*changes: Callable[[AttendCall], Tensor]) -> Tensor:
        if not changes:
            return module(query, context, context)
        with module.changed_by(changes[0]):
            return run(*changes[1:])

    both = run(zero_heads([0]), uniform_heads([1]))
    assert torch.equal(both, run(uniform_heads([1]), zero_heads([0])))
    assert not torch.equal(both, run(zero_heads([0])))
    assert not torch.equal(both, run(uniform_heads([1])))
    assert torch.equal(run(zero_heads([1]), uniform_heads([1])), run(uniform_heads([1])))
    assert torch.equal(run(uniform_heads([1]), zero_heads([1])), run(zero_heads([1])))
    assert torch.equal(run(zero_heads([])), untouched)
    assert torch.equal(run(), untouched)


class Pair(nn.Module):
    """Two places in a row."""

    def __init__(self, *modules: Attention) -> None:
        super().__init__()
        self.parts = nn.ModuleList(modules)
        for layer, module in enumerate(modules):
            module.site, module.layer = "cross", layer

    def forward(self, query: Tensor, context: Tensor) -> Tensor:
        for part in self.parts:
            query = query + part(query, context, context)
        return query


@pytest.fixture
def pair(build: Build) -> Pair:
    sizes = {"d_model": D_MODEL, "num_heads": HEADS}
    return Pair(build("multi_head", **sizes), build("low_rank_v", seed=1, **sizes))


def test_each_place_is_changed_as_it_is_told(pair: Pair, device: torch.device) -> None:
    query, context = embeddings(device)
    first, second = pair.parts
    with torch.no_grad():
        with intervene(pair, {("cross", 0): zero_heads(), ("cross", 1): uniform_heads([1])}):
            both = pair(query, context)
        between = query + first.output_proj.bias
        with second.changed_by(uniform_heads([1])):
            assert_close(both, between + second(between, context, context), **EXACT)


def test_nothing_stays_behind(pair: Pair, device: torch.device) -> None:
    query, context = embeddings(device)
    untouched = pair(query, context)
    places = {("cross", 0): zero_heads(), ("cross", 1): zero_heads([5])}
    with pytest.raises(ValueError, match=r"heads \[5\] are not all among 0 to 1"), intervene(pair, places):
        pair(query, context)
    assert torch.equal(pair(query, context), untouched)
    with intervene(pair, {("cross", 1): uniform_heads()}):
        twin = copy.deepcopy(pair)
        assert not torch.equal(pair(query, context), untouched)
    assert torch.equal(pair(query, context), untouched)
    # A copy made meanwhile is nobody's to change.
    assert torch.equal(twin(query, context), untouched)


@pytest.mark.parametrize("make", [zero_heads, uniform_heads])
@pytest.mark.parametrize("heads", [[2], [-1], [0, 7]])
def test_a_head_that_there_is_not(
    make: Callable[..., Callable[[AttendCall], Tensor]], heads: list[int], build: Build, device: torch.device
) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS)
    query, context = embeddings(device)
    with module.changed_by(make(heads)), pytest.raises(ValueError, match="not all among 0 to 1"):
        module(query, context, context)


def test_a_place_that_there_is_not(pair: Pair, device: torch.device) -> None:
    query, context = embeddings(device)
    untouched = pair(query, context)
    places = {("cross", 0): zero_heads(), ("cross", 2): zero_heads()}
    with pytest.raises(ValueError, match=r"no attention at \[\('cross', 2\)\]"), intervene(pair, places):
        pass
    assert torch.equal(pair(query, context), untouched)


@pytest.mark.of_attend
def test_gradients_flow_through_what_is_left(
    variant_name: str, backend_name: str, build: Build, device: torch.device
) -> None:
    """And not through what is not: a silent head's rows of W_O learn nothing, a uniform query neither."""
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    mask = on(device, MASKS["padded_causal"][0])
    query, context = embeddings(device, requires_grad=True)
    last, call = output_map(module, query, context)
    with module.changed_by(zero_heads([0])):
        module(query, context, context, mask).square().sum().backward()
    rows = last.weight.grad.view(D_MODEL, call.heads, -1)
    assert_close(rows[:, 0], torch.zeros_like(rows[:, 0]), rtol=0, atol=0)
    assert call.heads == 1 or rows[:, 1].abs().min() > 0
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in module.parameters())

    module.zero_grad()
    query.grad = context.grad = None
    with module.changed_by(uniform_heads()):
        module(query, context, context, mask).square().sum().backward()
    if is_linear_in_heads(module, D_MODEL):
        assert query.grad is None or not query.grad.any()
    assert context.grad is not None
    # Nobody may attend to what is padded, and in sentence 2 everything is; causal, key 5 and 6 come after all queries.
    seen = KEEP.to(device) & (torch.arange(KEYS, device=device) < QUERIES)
    assert torch.equal(context.grad.abs().amax(-1) > 0, seen)


def test_recorded_weights_are_those_of_the_call(
    variant_name: str, backend_name: str, build: Build, device: torch.device
) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    query, context = embeddings(device)
    mask = on(device, MASKS["padded"][0])
    with record_patterns(module) as before:
        module(query, context, context, mask)
    for change in (zero_heads([0]), uniform_heads()):
        with module.changed_by(change), record_patterns(module) as patterns:
            output = module(query, context, context, mask)
        assert torch.equal(patterns["", 0].weights, before["", 0].weights)
        with module.changed_by(change):
            assert torch.equal(output, module(query, context, context, mask))


class Difference(Attention):
    """The difference of two maps."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, d_model)
        self.key_proj = nn.Linear(d_model, d_model)
        self.value_proj = nn.Linear(d_model, d_model)
        self.output_proj = nn.Linear(d_model, d_model)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        v = split_heads(self.value_proj(value), self.num_heads)
        one, other = self.attend(q, k, v, mask), self.attend(q, k.flip(-1), v, mask)
        self.report_pattern(lambda first, second: first - 0.3 * second, "signed")
        return self.output_proj(merge_heads(one - 0.3 * other))


def test_a_head_is_changed_in_every_attend_of_a_variant(device: torch.device) -> None:
    query, context = embeddings(device)
    module = Difference(D_MODEL, HEADS).to(query)
    silent = copy.deepcopy(module)
    with torch.no_grad():
        silent.output_proj.weight[:, : D_MODEL // HEADS] = 0
    with module.changed_by(zero_heads([0])):
        assert_close(module(query, context, context), silent(query, context, context), **EXACT)
    with module.changed_by(uniform_heads()):
        mean = module.value_proj(context).mean(1, keepdim=True)
        expected = module.output_proj(0.7 * mean).expand(BATCH, QUERIES, D_MODEL)
        assert_close(module(query, context, context), expected, **EXACT)


def test_an_intervention_must_keep_the_shape(build: Build, device: torch.device) -> None:
    module = build("self", d_model=D_MODEL, num_heads=1)
    query, context = embeddings(device)
    with module.changed_by(lambda call: call.output[:, :, :2]), pytest.raises(UserError, match="returned shape"):
        module(query, context, context)
