"""Which backend runs, and what one is told when the chosen one cannot."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from attnframe import Attention, Mask, UserError, build_attention, merge_heads, register_attention, split_heads
from attnframe.attention import settle_backend
from attnframe.backends import Backend, BackendError, Request, backends, resolve

PLAIN = Request(device="cpu", dtype=torch.float32, heads=3, key_heads=3, head_dim=8, value_dim=8)


class Cannot(Backend):
    """Declines everything, with two reasons."""

    name = "cannot"

    def unsupported(self, request: Request) -> list[str]:
        return ["it is closed on Sundays", "it has no tea"]

    def attend(self, *args: object, **kwargs: object) -> Tensor:  # type: ignore[override]
        raise AssertionError("a backend that declines must not be run")


@pytest.fixture
def _with_one_that_cannot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnframe.backends.resolution._BACKENDS", {"cannot": Cannot(), **backends()})


def test_auto_takes_the_first_that_can_and_tells_why_it_passed_over_the_others() -> None:
    resolution = resolve("auto", [PLAIN])
    for name, backend in backends().items():
        if name == resolution.backend.name:
            assert backend.unsupported(PLAIN) == []
            break
        assert resolution.passed_over[name] == tuple(backend.unsupported(PLAIN)) != ()
    assert list(resolution.passed_over) == list(backends())[: len(resolution.passed_over)]
    assert resolution.backend.name != "eager", "a plain call has a fused kernel on the CPU"


def test_auto_comes_to_eager_last() -> None:
    assert list(backends())[-1] == "eager"
    resolution = resolve("auto", [dataclasses.replace(PLAIN, device="meta", score_mod=("function",))])
    assert set(resolution.passed_over) == set(backends()) - {resolution.backend.name}


def test_auto_wants_one_backend_for_all_requests() -> None:
    fused = resolve("auto", [PLAIN]).backend
    with_mod = dataclasses.replace(PLAIN, score_mod=("function",), dropout=0.1)
    resolution = resolve("auto", [PLAIN, with_mod])
    assert resolution.backend.unsupported(with_mod) == []
    assert (fused.name in resolution.passed_over) == bool(fused.unsupported(with_mod))


def test_an_explicit_choice_is_taken(backend_name: str) -> None:
    able = [PLAIN] if not backends()[backend_name].unsupported(PLAIN) else []
    assert resolve(backend_name, able).backend is backends()[backend_name]


@pytest.mark.usefixtures("_with_one_that_cannot")
def test_an_explicit_choice_that_cannot_is_refused_with_every_reason_and_the_nearest_that_can() -> None:
    able = next(name for name, backend in backends().items() if not backend.unsupported(PLAIN))
    with pytest.raises(BackendError) as refusal:
        resolve("cannot", [PLAIN, PLAIN])
    assert str(refusal.value) == (
        f"backend=cannot cannot run this: it is closed on Sundays; it has no tea; backend={able} can"
    )
    assert resolve("auto", [PLAIN]).passed_over["cannot"] == ("it is closed on Sundays", "it has no tea")


@pytest.mark.usefixtures("_with_one_that_cannot")
def test_it_is_refused_when_the_model_is_built() -> None:
    with pytest.raises(BackendError, match="it has no tea"):
        build_attention("multi_head", d_model=6, num_heads=2, backend="cannot")


@pytest.mark.usefixtures("_with_one_that_cannot")
def test_a_module_may_not_fall_back_later_either() -> None:
    module = build_attention("multi_head", d_model=6, num_heads=2)
    module.backend = "cannot"
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    with pytest.raises(BackendError, match="it has no tea"):
        module.double()(x, x, x)


def test_an_unknown_backend_gets_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"there is no backend 'eagre': did you mean 'eager'\? \(known: .*auto.*\)"):
        build_attention("multi_head", d_model=6, num_heads=2, backend="eagre")


def test_a_backend_without_score_mod_says_so_when_a_variant_with_one_is_built(backend_name: str) -> None:
    @register_attention("far")
    class Far(Attention):
        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            q, k, v = (split_heads(x, 2) for x in (query, key, value))
            return merge_heads(self.attend(q, k, v, mask, score_mod=lambda score, b, h, i, j: score + (i - j).abs()))

    backend = backends()[backend_name]
    wanted = dataclasses.replace(PLAIN, heads=2, key_heads=2, head_dim=3, value_dim=3, score_mod=("function",))
    reasons = backend.unsupported(wanted)
    if not reasons:
        assert build_attention("far", d_model=6, num_heads=2, backend=backend_name).backend == backend_name
        return
    with pytest.raises(BackendError) as refusal:
        build_attention("far", d_model=6, num_heads=2, backend=backend_name)
    assert all(reason in str(refusal.value) for reason in reasons)
    nearest = str(refusal.value).removesuffix(" can").rpartition("backend=")[2]
    assert backends()[nearest].unsupported(wanted) == []


def test_settling_asks_for_the_device_and_type_that_will_be() -> None:
    module = build_attention("multi_head", d_model=6, num_heads=2, dropout=0.1)
    resolution = settle_backend(module, d_model=6, d_context=6, device="meta", dtype=torch.bfloat16)
    assert resolution is not None
    wanted = Request("meta", torch.bfloat16, heads=2, key_heads=2, head_dim=3, value_dim=3, dropout=0.1)
    assert resolution.backend.unsupported(wanted) == []
    assert module.resolution(wanted) is resolution


def test_settling_leaves_weights_mode_and_random_numbers_alone() -> None:
    module = build_attention("multi_head", d_model=6, num_heads=2, dropout=0.1)
    assert module.training
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    settle_backend(module, d_model=6, d_context=6)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    assert module.training
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, before[name], rtol=0, atol=0)


def test_a_variant_without_attend_has_no_backend_to_settle() -> None:
    @register_attention("nothing")
    class Nothing(Attention):
        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            return query

    module = build_attention("nothing", d_model=6, num_heads=2)
    assert settle_backend(module, d_model=6, d_context=6) is None


@pytest.mark.slow
def test_a_new_module_compiles_as_one_graph_with_gradients() -> None:
    """Its first call, which is the one that chooses a backend for training."""
    module = build_attention("multi_head", d_model=6, num_heads=2)
    x = torch.randn(2, 5, 6, requires_grad=True)
    output = torch.compile(module, backend="aot_eager", fullgraph=True)(x, x, x)
    output.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(output, module(x, x, x))
