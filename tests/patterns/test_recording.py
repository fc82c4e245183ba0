"""Recording shows what a module attended to and changes nothing."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import Attention, Mask, build_attention, merge_heads, record_patterns, register_attention, split_heads
from attnframe.attention import PatternKind, masked_softmax
from attnframe.backends import backends
from attnframe.errors import UserError
from attnframe.patterns import recording
from attnframe.patterns.recording import PatternError

BATCH, QUERIES, KEYS, D_MODEL, HEADS = 3, 5, 7, 22, 2
KINDS = ["open", "causal", "padded", "window"]


def mask_of(kind: str, device: torch.device) -> Mask:
    keep = torch.tensor([[j < n for j in range(KEYS)] for n in (4, KEYS, 0)], device=device)
    return Mask(keep if kind == "padded" else None, causal=kind == "causal", window=1 if kind == "window" else None)


def one_step(module: Attention, mask: Mask, dtype: torch.dtype, device: torch.device) -> list[Tensor | None]:
    """The output and every gradient of one training step."""
    torch.manual_seed(7)
    query = torch.randn(BATCH, QUERIES, D_MODEL, dtype=dtype, device=device, requires_grad=True)
    context = torch.randn(BATCH, KEYS, D_MODEL, dtype=dtype, device=device, requires_grad=True)
    module.zero_grad(set_to_none=True)
    output = module(query, context, context, mask)
    output.pow(2).sum().backward()
    return [output.detach(), query.grad, context.grad, *(parameter.grad for parameter in module.parameters())]


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.of_attend
def test_outputs_and_gradients_stay_bit_equal(
    variant_name: str,
    backend_name: str,
    dtype: torch.dtype,
    dropout: float,
    build: Callable[..., Attention],
    device: torch.device,
) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name, dtype=dtype, dropout=dropout)
    for kind in KINDS:
        mask = mask_of(kind, device)
        plain = one_step(module, mask, dtype, device)
        used = module.backends_used()
        for contributions in (False, True):
            with record_patterns(module, contributions=contributions) as patterns:
                recorded = one_step(module, mask, dtype, device)
            assert len(patterns) == 1
            assert module.backends_used() == used == {backend_name}
            for one, other in zip(plain, recorded, strict=True):
                assert (one is None) is (other is None)
                if one is not None:
                    assert torch.equal(one, other), kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.of_attend
def test_every_backend_shows_the_weights_of_eager(
    variant_name: str, backend_name: str, kind: str, build: Callable[..., Attention], device: torch.device
) -> None:
    found, kinds = [], set()
    for backend in (backend_name, "eager"):
        module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend, dtype=torch.float32).eval()
        torch.manual_seed(7)
        query = torch.randn(BATCH, QUERIES, D_MODEL, device=device)
        context = torch.randn(BATCH, KEYS, D_MODEL, device=device)
        with record_patterns(module) as patterns:
            module(query, context, context, mask_of(kind, device))
        kinds.add(patterns["", 0].kind)
        found.append(patterns["", 0].weights)
    assert found[0].dtype == torch.float32
    assert_close(found[0], found[1], rtol=0, atol=1e-6)
    assert len(kinds) == 1
    allowed = mask_of(kind, device).bind(BATCH, QUERIES, KEYS, device).dense()
    if kinds == {PatternKind.PROBABILITY}:
        assert_close(found[0].sum(-1), allowed.any(-1).float().expand_as(found[0][..., 0]), rtol=0, atol=1e-6)
    assert not (found[0] != 0).logical_and(~allowed).any()
    assert kinds == {PatternKind.SIGNED} or not (found[0] < 0).any()


def test_recorded_weights_are_those_before_dropout(
    variant_name: str, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name, dropout=0.5).train()
    x = torch.randn(BATCH, QUERIES, D_MODEL, dtype=torch.float64, device=device)
    with record_patterns(module) as patterns:
        module(x, x, x)
    training = patterns["", 0].weights
    module.eval()
    with record_patterns(module) as patterns:
        module(x, x, x)
    assert_close(training, patterns["", 0].weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.of_attend
def test_narrow_types_are_rebuilt_in_float32(
    variant_name: str, backend_name: str, dtype: torch.dtype, build: Callable[..., Attention], device: torch.device
) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name, dtype=dtype).eval()
    x = torch.randn(BATCH, QUERIES, D_MODEL, dtype=dtype, device=device)
    with record_patterns(module) as patterns:
        module(x, x, x)
    weights = patterns["", 0].weights
    assert weights.dtype == torch.float32
    if patterns["", 0].kind is PatternKind.PROBABILITY:
        assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)), rtol=0, atol=1e-6)
    else:
        assert (weights.bfloat16() != weights).any()


@pytest.mark.of_attend
def test_recording_under_autocast(
    variant_name: str, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name, dtype=torch.float32).eval()
    x = torch.randn(BATCH, QUERIES, D_MODEL, device=device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        plain = module(x, x, x)
        with record_patterns(module) as patterns:
            output = module(x, x, x)
    assert torch.equal(output, plain)
    assert patterns["", 0].weights.dtype == torch.float32


class Counting(Attention):
    """Two attends, and a report that counts how often it is asked for."""

    def __init__(self, d_model: int, *, report: bool = True) -> None:
        super().__init__()
        self.report = report
        self.asked = 0
        self.proj = nn.Linear(d_model, d_model)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = (split_heads(x, HEADS) for x in (self.proj(query), key, value))
        output = self.attend(q, k, v, mask) - 0.5 * self.attend(q, -k, v, mask)
        if self.report:
            self.report_pattern(self.combine, "signed")
        return merge_heads(output)

    def combine(self, first: Tensor, second: Tensor) -> Tensor:
        self.asked += 1
        return first - 0.5 * second


def test_nothing_is_kept_or_called_while_nobody_records(monkeypatch: pytest.MonkeyPatch, device: torch.device) -> None:
    register_attention("counting")(Counting)
    module = build_attention("counting", d_model=D_MODEL, num_heads=HEADS).to(device)
    rebuilt: list[object] = []
    genuine = recording._rebuild
    monkeypatch.setattr(recording, "_rebuild", lambda call: rebuilt.append(call) or genuine(call))
    x = torch.randn(BATCH, QUERIES, D_MODEL, device=device)
    module(x, x, x)
    assert (module.asked, len(rebuilt), module._observers) == (0, 0, [])
    with record_patterns(module) as patterns:
        module(x, x, x)
    assert (module.asked, len(rebuilt)) == (1, 2)
    first = patterns["", 0]
    module(x, x, x)
    assert (module.asked, len(rebuilt), module._observers) == (1, 2, [])
    assert patterns["", 0] is first
    with record_patterns(module, sites=["cross"]) as patterns:
        module(x, x, x)
    assert (module.asked, len(rebuilt), len(patterns)) == (1, 2, 0)


class Claiming(Attention):
    """Reports what it is told to report."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.factor, self.kind, self.mass = 1.0, "probability", None

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = (split_heads(x, HEADS) for x in (query, key, value))
        output = self.attend(q, k, v, mask)
        self.report_pattern(lambda weights: weights * self.factor, self.kind, mass=self.mass)
        return merge_heads(output)


@pytest.mark.parametrize(
    ("factor", "kind", "mass", "is_true"),
    [
        (1.0, "probability", None, True),
        (0.7, "probability", None, False),
        (0.7, "unnormalised", None, True),
        (0.7, "unnormalised", 0.7, True),
        (0.7, "signed", 1.0, False),
        (torch.tensor([[[0.5]], [[0.25]]]), "implicit", None, True),
        (torch.tensor([[[0.5]], [[0.25]]]), "implicit", torch.tensor([[0.5], [0.25]]), True),
        (torch.tensor([[[0.5]], [[0.25]]]), "implicit", torch.tensor([[0.25], [0.5]]), False),
        (torch.nan, "probability", None, True),
    ],
)
def test_rows_have_the_mass_that_is_reported(
    factor: float | Tensor, kind: str, mass: float | Tensor | None, is_true: bool
) -> None:
    register_attention("claiming")(Claiming)
    module = build_attention("claiming", d_model=D_MODEL, num_heads=HEADS)
    module.factor, module.kind, module.mass = factor, kind, mass
    x = torch.randn(BATCH, KEYS, D_MODEL)
    mask = mask_of("padded", torch.device("cpu"))  # rows that may attend to nothing are 0 whatever the mass
    with contextlib.nullcontext() if is_true else pytest.raises(PatternError, match="reports a pattern with a row"):
        with record_patterns(module) as patterns:
            module(x, x, x, mask)
        assert patterns["", 0].kind == kind


class Normalising(Attention):
    """softmax times `factor`, by a normaliser of its own; `says` is what it reports, None for nothing."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.factor, self.says = 1.0, None

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = (split_heads(x, HEADS) for x in (query, key, value))
        output = self.attend(q, k, v, mask, normaliser=lambda s, keep: self.factor * masked_softmax(s, keep))
        if self.says is not None:
            self.report_pattern(lambda weights: weights, self.says)
        return merge_heads(output)


def test_weights_of_a_normaliser_are_the_pattern_and_probabilities_unless_it_says_more() -> None:
    register_attention("normalising")(Normalising)
    module = build_attention("normalising", d_model=D_MODEL, num_heads=HEADS)
    x = torch.randn(BATCH, KEYS, D_MODEL)
    mask = mask_of("padded", torch.device("cpu"))
    for factor, says in ((1.0, None), (0.7, "unnormalised")):
        module.factor, module.says = factor, says
        with record_patterns(module) as patterns:
            module(x, x, x, mask)
        heads = split_heads(x, HEADS)
        keep = mask.bind(BATCH, KEYS, KEYS).dense()
        scores = (heads @ heads.mT / heads.shape[-1] ** 0.5).masked_fill(~keep, -torch.inf)
        assert_close(patterns["", 0].weights, factor * scores.softmax(-1).nan_to_num(0.0))
    module.factor, module.says = 0.7, None
    with pytest.raises(PatternError, match=r"a row that sums to 0\.7"), record_patterns(module):
        module(x, x, x, mask)


@pytest.mark.parametrize("factor", [torch.ones(2, 1, 1, 1, 1), torch.ones(BATCH + 1, BATCH, HEADS, 1, 1)])
def test_a_report_of_another_shape_is_refused(factor: Tensor) -> None:
    register_attention("claiming")(Claiming)
    module = build_attention("claiming", d_model=D_MODEL, num_heads=HEADS)
    module.factor, module.kind = factor, "implicit"
    x = torch.randn(BATCH, KEYS, D_MODEL)
    with pytest.raises(PatternError, match=r"Claiming reports a pattern of shape"), record_patterns(module):
        module(x, x, x)


@pytest.mark.parametrize("contributions", [False, True])
def test_the_budget_is_kept_before_any_weight_is_formed(contributions: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = modules = nn.ModuleList(
        build_attention("multi_head", d_model=D_MODEL, num_heads=HEADS) for _ in "12"
    )
    second.site = "cross"
    x = torch.randn(BATCH, KEYS, D_MODEL)
    kept = 4 * BATCH * KEYS * KEYS * (HEADS + (HEADS + 1 if contributions else 0))
    on_the_way = 4 * BATCH * KEYS * HEADS * D_MODEL if contributions else 0  # V·W_O of each head

    def record(max_bytes: int | None) -> int:
        with record_patterns(modules, contributions=contributions, max_bytes=max_bytes) as patterns:
            first(x, x, x)
            first(x, x, x)  # takes the place of the call before
            second(x, x, x)
        return len(patterns)

    assert record(None) == record(2 * kept + on_the_way) == 2
    rebuilt: list[object] = []
    genuine = recording._rebuild
    monkeypatch.setattr(recording, "_rebuild", lambda call: rebuilt.append(call) or genuine(call))
    with pytest.raises(
        UserError, match=rf"recording cross, layer 1 needs .* \[{BATCH}, {HEADS}, {KEYS}, {KEYS}\] .*raise max_bytes"
    ):
        record(2 * kept + on_the_way - 1)
    assert len(rebuilt) == 2
    assert first._observers == second._observers == []


def test_recording_ends_with_its_context_even_after_an_error(device: torch.device) -> None:
    module = build_attention("multi_head", d_model=D_MODEL, num_heads=HEADS).to(device)
    with pytest.raises(ZeroDivisionError), record_patterns(module):
        raise ZeroDivisionError
    assert module._observers == []


class Habit(Attention):
    """Calls attend as often as it is told, with more keys or fewer queries than it is given, and reports nothing."""

    calls, extra_keys, fewer_queries = 1, 0, 0

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        first, k, v = (split_heads(x, HEADS) for x in (query, key, value))
        q = first[:, :, self.fewer_queries :]
        k, v = (torch.cat([x, x[:, :, : self.extra_keys]], dim=2) for x in (k, v))
        if k.shape[2] != mask.shape[2] or q.shape[2] != mask.shape[1]:
            mask = Mask().bind(len(q), q.shape[2], k.shape[2], q.device)
        outputs = [self.attend(q, k, v, mask) for _ in range(self.calls)]
        return merge_heads(torch.cat([first[:, :, : self.fewer_queries], sum(outputs, torch.zeros_like(q))], dim=2))


HABITS = {
    "calls attend 0 times": {"calls": 0},
    "calls attend 2 times": {"calls": 2},
    "calls attend with other queries or keys than it is given": {"extra_keys": 2},
    "calls attend 3 times": {"calls": 3, "fewer_queries": 1},
}


def habit(device: torch.device, **settings: int) -> Habit:
    module = Habit().to(device)
    module.site, module.layer = "cross", 1
    vars(module).update(settings)
    return module


@pytest.mark.parametrize("contributions", [False, True])
@pytest.mark.parametrize("says", [*HABITS])
def test_a_module_that_does_not_say_its_pattern_has_none(
    says: str, contributions: bool, monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    module = habit(device, **HABITS[says])
    beside = build_attention("multi_head", d_model=D_MODEL, num_heads=HEADS).to(device)
    x = torch.randn(BATCH, QUERIES, D_MODEL, device=device)
    plain = module(x, x, x)
    rebuilt: list[object] = []
    genuine = recording._rebuild
    monkeypatch.setattr(recording, "_rebuild", lambda call: rebuilt.append(call) or genuine(call))
    with record_patterns(nn.ModuleList([module, beside]), contributions=contributions) as patterns:
        assert torch.equal(module(x, x, x), plain)
        beside(x, x, x)
    reason = f"Habit {says} and reports no pattern: call self.report_pattern(...) in its forward"
    assert patterns.missing == {("cross", 1): reason}
    assert list(patterns) == [("", 0)]
    assert ("cross", 1) not in patterns
    assert len(rebuilt) == 1, "nothing is formed of what is not kept"
    with pytest.raises(KeyError, match="Habit calls attend"):
        patterns["cross", 1]
    with record_patterns(module, sites=["decoder_self"]) as patterns:
        module(x, x, x)
    assert patterns.missing == {}


def test_fewer_queries_than_it_is_given_are_no_pattern_of_its_own(device: torch.device) -> None:
    module, x = habit(device, fewer_queries=2), torch.randn(BATCH, QUERIES, D_MODEL, device=device)
    with record_patterns(module) as patterns:
        module(x, x, x)
    assert "with other queries or keys" in patterns.missing["cross", 1]


def test_the_latest_call_decides_whether_there_is_a_pattern(device: torch.device) -> None:
    module, x = habit(device), torch.randn(BATCH, QUERIES, D_MODEL, device=device)
    with record_patterns(module) as patterns:
        module(x, x, x)
        assert (list(patterns), patterns.missing) == ([("cross", 1)], {})
        module.calls = 2
        module(x, x, x)
        assert (list(patterns), list(patterns.missing)) == ([], [("cross", 1)])
        module.calls = 1
        module(x, x, x)
        assert (list(patterns), patterns.missing) == ([("cross", 1)], {})


def test_an_unknown_kind_of_pattern_is_refused_when_the_variant_is_built() -> None:
    class Odd(Attention):
        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            self.report_pattern(lambda: query, "probable")
            return query

    register_attention("odd")(Odd)
    with pytest.raises(ValueError, match="probable"):
        build_attention("odd", d_model=D_MODEL, num_heads=HEADS)


def _shifted(output: Tensor) -> Tensor:
    return output + 0.01


def _other_head(output: Tensor) -> Tensor:
    return output.flip(1)


def _one_nan(output: Tensor) -> Tensor:
    output = output.clone()
    output[0, 0, 0, 0] = torch.nan
    return output


@pytest.mark.parametrize("lie", [_shifted, _other_head, _one_nan])
def test_a_backend_that_lies_is_found_out(
    backend_name: str,
    lie: Callable[[Tensor], Tensor],
    build: Callable[..., Attention],
    monkeypatch: pytest.MonkeyPatch,
    device: torch.device,
) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS, backend=backend_name, dtype=torch.float32).eval()
    x = torch.randn(BATCH, QUERIES, D_MODEL, device=device)
    with record_patterns(module):
        module(x, x, x)
    backend = backends()[backend_name]
    genuine = backend.attend
    monkeypatch.setattr(backend, "attend", lambda *qkv, **how: lie(genuine(*qkv, **how)))
    module(x, x, x)
    with pytest.raises(PatternError, match="rebuilt weights miss the kernel's output by"), record_patterns(module):
        module(x, x, x)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_a_sharp_head_is_no_lie(
    backend_name: str, dtype: torch.dtype, build: Callable[..., Attention], device: torch.device
) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS, backend=backend_name, dtype=dtype).eval()
    with torch.no_grad():
        module.query_proj.weight.mul_(40)
    x = torch.randn(BATCH, KEYS, D_MODEL, dtype=dtype, device=device)
    with record_patterns(module) as patterns:
        module(x, x, x)
    assert patterns["", 0].weights.amax(-1).mean() > 0.8


def test_a_lie_is_found_out_in_small_numbers_too(
    backend_name: str, build: Callable[..., Attention], monkeypatch: pytest.MonkeyPatch, device: torch.device
) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS, backend=backend_name, dtype=torch.float32).eval()
    with torch.no_grad():
        module.value_proj.weight.mul_(1e-6)
        module.value_proj.bias.zero_()
    x = torch.randn(BATCH, QUERIES, D_MODEL, device=device)
    with record_patterns(module):
        module(x, x, x)
    genuine = backends()[backend_name].attend
    monkeypatch.setattr(backends()[backend_name], "attend", lambda *qkv, **how: 1.1 * genuine(*qkv, **how))
    with pytest.raises(PatternError, match="rebuilt weights miss"), record_patterns(module):
        module(x, x, x)


def test_a_model_that_has_diverged_is_no_lie(
    backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS, backend=backend_name).eval()
    x = torch.full((BATCH, QUERIES, D_MODEL), torch.nan, dtype=torch.float64, device=device)
    with record_patterns(module) as patterns:
        module(x, x, x)
    assert patterns["", 0].weights.isnan().all()


def test_sites_and_layers() -> None:
    places = [("cross", 1), ("encoder_self", 0), ("cross", 0)]
    modules = nn.ModuleList(build_attention("multi_head", d_model=D_MODEL, num_heads=HEADS) for _ in places)
    for module, (site, layer) in zip(modules, places, strict=True):
        module.site, module.layer = site, layer
    x = torch.randn(BATCH, QUERIES, D_MODEL)

    def run() -> None:
        for module in modules:
            module(x, x, x)

    with record_patterns(modules) as patterns:
        run()
    assert list(patterns) == sorted(places)
    assert len(patterns) == 3
    layers = patterns.layers("cross")
    assert len(layers) == 2
    assert layers[0] is patterns["cross", 0].weights
    assert layers[1] is patterns["cross", 1].weights
    assert patterns.layers("decoder_self") == []
    with record_patterns(modules, sites=["cross"]) as patterns:
        run()
    assert list(patterns) == [("cross", 0), ("cross", 1)]


def test_the_latest_call_of_a_module_is_kept() -> None:
    module = build_attention("multi_head", d_model=D_MODEL, num_heads=HEADS)
    x = torch.randn(BATCH, KEYS, D_MODEL)
    with record_patterns(module) as patterns:
        for length in (KEYS, 3):
            module(x[:, :length], x, x)
    assert patterns["", 0].weights.shape == (BATCH, HEADS, 3, KEYS)


def test_two_may_record_at_once() -> None:
    module = build_attention("multi_head", d_model=D_MODEL, num_heads=HEADS)
    x = torch.randn(BATCH, KEYS, D_MODEL)
    with record_patterns(module) as outer, record_patterns(module) as inner:
        module(x, x, x)
    assert torch.equal(outer["", 0].weights, inner["", 0].weights)


def test_no_keys_no_weights(backend_name: str, build: Callable[..., Attention], device: torch.device) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    query = torch.randn(BATCH, QUERIES, D_MODEL, dtype=torch.float64, device=device)
    nothing = query[:, :0]
    with record_patterns(module) as patterns:
        module(query, nothing, nothing)
    assert patterns["", 0].weights.shape == (BATCH, HEADS, QUERIES, 0)


def test_a_variant_may_contain_another_module_and_may_have_failed_before(device: torch.device) -> None:
    class Around(Attention):
        """Attends itself and lets an inner module attend too."""

        def __init__(self) -> None:
            super().__init__()
            self.inner = build_attention("multi_head", d_model=12, num_heads=3)
            self.inner.site = "inner"
            self.fails = True

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            q = split_heads(query, 2)
            output = merge_heads(self.attend(q, q, q, mask)) + self.inner(query, key, value, mask)
            if self.fails:
                raise RuntimeError("half-way")
            return output

    module = Around().to(device)
    x = torch.randn(2, 5, 12, device=device)
    with record_patterns(module) as patterns:
        with pytest.raises(RuntimeError, match="half-way"):
            module(x, x, x)
        module.fails = False
        module(x, x, x)
    assert patterns["", 0].weights.shape == (2, 2, 5, 5)
    assert patterns["inner", 0].weights.shape == (2, 3, 5, 5)
