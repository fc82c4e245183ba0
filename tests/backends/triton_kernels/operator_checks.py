"""The operator beside its kernels: what autograd and torch.compile make of it. Run by test_operator.py in a process of
its own, where kernels run in the interpreter."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kernel_cases import CASES, inputs
from torch import Tensor
from torch.testing import assert_close

from attnframe import Mask, merge_heads
from attnframe.backends import DistanceBias, KeyBias, Softcap, Triton, backends, chained
from attnframe.backends.triton.attention import AttentionOutput, attention
from attnframe.backends.triton.descriptors import describable

CPU = torch.device("cpu")
CASE = CASES["one key head"]


@pytest.fixture
def qkv() -> tuple[Tensor, Tensor, Tensor]:
    return inputs(CASE, torch.float32, CPU)


def objective(result: AttentionOutput) -> Tensor:
    assert result.entropy is not None
    return result.output.square().sum() + result.lse.square().sum() + result.entropy.square().sum()


SLOPES = torch.tensor([0.5, 0.25, 0.125])


def key_bias() -> Tensor:
    return torch.randn(CASE.batch, CASE.keys, generator=torch.Generator().manual_seed(41)).requires_grad_()


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("modified", [True, False])
def test_opcheck(qkv: tuple[Tensor, ...], statistics: bool, modified: bool) -> None:
    how = (1.5, SLOPES, key_bias()) if modified else (None, None, None)
    torch.library.opcheck(torch.ops.attnframe.triton_attention, (*qkv, None, 0.3, True, 5, 2, *how, statistics))


def test_compiled_it_is_one_graph_with_the_same_results(qkv: tuple[Tensor, ...]) -> None:
    qkv = (*qkv, key_bias())

    def run(*tensors: Tensor) -> Tensor:
        *of_heads, bias = tensors
        how = {"softcap": 1.5, "slopes": SLOPES, "key_bias": bias}
        return objective(attention(*of_heads, scale=0.3, causal=True, statistics=True, **how))

    plain = torch.autograd.grad(run(*qkv), qkv)
    compiled = torch.autograd.grad(torch.compile(run, backend="aot_eager", fullgraph=True)(*qkv), qkv)
    for one, other in zip(compiled, plain, strict=True):
        assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_three_runs_give_the_same_bits_and_nothing_is_left_unwritten(qkv: tuple[Tensor, ...]) -> None:
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory, "then what is not written is NaN"
    try:
        runs = []
        for _ in range(3):
            result = attention(*qkv, scale=0.3, window=6, statistics=True)
            runs.append([x for x in result if x is not None] + list(torch.autograd.grad(objective(result), qkv)))
    finally:
        torch.use_deterministic_algorithms(False)
    for tensors in zip(*runs, strict=True):
        assert all(torch.equal(tensors[0], x) and bool(x.isfinite().all()) for x in tensors)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_descriptors_and_pointers_give_the_same_bits(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    qkv = inputs(CASE, dtype, CPU)
    asked = []

    def run() -> list[Tensor]:
        result = attention(*qkv, scale=0.3, causal=True, statistics=True, softcap=1.5)
        return [result.output, result.lse, *torch.autograd.grad(objective(result), qkv)]

    def by_pointers(x: Tensor, *, by_head: bool) -> bool:
        asked.append(describable(x, by_head=by_head))
        return False

    described = run()
    monkeypatch.setattr("attnframe.backends.triton.descriptors.describable", by_pointers)
    for one, other in zip(described, run(), strict=True):
        assert torch.equal(one, other)
    assert asked == [True] * 3, "something was not described, or a kernel did not ask"


@pytest.mark.parametrize("of", ["output", "lse", "entropy"])
def test_a_gradient_through_one_result_alone(qkv: tuple[Tensor, ...], of: str) -> None:
    result = attention(*qkv, scale=0.3, causal=True, statistics=True)
    everything = torch.autograd.grad(objective(result), qkv, retain_graph=True)
    alone: list[Any] = []
    for name in ("output", "lse", "entropy"):
        alone.append(torch.autograd.grad(getattr(result, name).square().sum(), qkv, retain_graph=True))
    for whole, *parts in zip(everything, *alone, strict=True):
        assert_close(sum(parts), whole, rtol=1e-5, atol=1e-5)
    if of != "output":
        v = torch.autograd.grad(getattr(result, of).sum(), qkv)[2]
        assert_close(v, torch.zeros_like(v), rtol=0, atol=0)


def test_the_greatest_score_has_no_gradient_and_a_second_derivative_is_refused(qkv: tuple[Tensor, ...]) -> None:
    result = attention(*qkv, scale=0.3, statistics=True)
    assert result.max_score is not None
    assert not result.max_score.requires_grad
    (d_q,) = torch.autograd.grad(objective(result), qkv[:1], create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(d_q.sum(), qkv)


def test_merging_the_heads_copies_nothing(qkv: tuple[Tensor, ...]) -> None:
    output = attention(*qkv, scale=0.3).output
    assert merge_heads(output).data_ptr() == output.data_ptr()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda q, k, v: (q.double(), k.double(), v.double()), "float64"),
        (lambda q, k, v: (q, k, v.half()), "float16"),
        (lambda q, k, v: (q, k[:, :, 1:], v), "must agree"),
        (lambda q, k, v: (q, k[..., 1:], v), "must agree"),
        (lambda q, k, v: (q[:, :2], k.repeat(1, 3, 1, 1), v.repeat(1, 3, 1, 1)), "divide the heads"),
    ],
)
def test_what_does_not_fit_together_is_refused(qkv: tuple[Tensor, ...], change: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        attention(*change(*qkv), scale=0.3)
    for name, wrong in (
        ("key_keep", torch.ones(CASE.batch, CASE.keys + 1, dtype=torch.bool)),
        ("slopes", torch.ones(CASE.heads + 1)),
        ("key_bias", torch.ones(CASE.batch, 1)),
    ):
        with pytest.raises(ValueError, match=name):
            attention(*qkv, scale=0.3, **{name: wrong})


@pytest.mark.parametrize("mask", [Mask(), Mask(causal=True), Mask(causal=True, query_offset=3, window=4)])
@pytest.mark.parametrize("padded", [True, False])
def test_the_backend_reads_mask_and_score_mod_as_eager_does(qkv: tuple[Tensor, ...], mask: Mask, padded: bool) -> None:
    keep = torch.arange(CASE.keys).expand(CASE.batch, -1) % 4 < 3 if padded else None
    bound = Mask(keep, mask.causal, mask.window, mask.query_offset).bind(CASE.batch, CASE.queries, CASE.keys)
    rest: dict[str, Any] = {"scale": 0.3, "dropout": 0.0, "mask_mod": None}
    for steps in (
        (),
        (Softcap(0.7),),
        (DistanceBias(SLOPES),),
        (Softcap(0.7), DistanceBias(SLOPES), KeyBias(key_bias())),
    ):
        given = {"score_mod": chained(*steps), **rest}
        expected = backends()["eager"].attend(*qkv, bound, normaliser=None, **given)
        output = Triton().attend(*qkv, bound, normaliser=None, **given)
        assert_close(output, expected, rtol=1e-5, atol=1e-5)
        beside, found = Triton().attend_with_statistics(*qkv, bound, **given)
        assert torch.equal(beside, output)
        _, statistics = backends()["eager"].attend_with_statistics(*qkv, bound, **given)
        for name in ("lse", "max_score", "entropy"):
            assert_close(getattr(found, name), getattr(statistics, name), rtol=0, atol=1e-5)
