"""Score_mods that say what they are: the same numbers as a function that does not, in the order in which they come."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from attnframe import Mask, build_attention
from attnframe.attention import trace_attend
from attnframe.attention.capability import capabilities
from attnframe.backends import Chain, DistanceBias, KeyBias, ScoreMod, Softcap, backends, chained
from attnframe.backends.score_mods import kinds

BATCH, HEADS, QUERIES, KEYS, WIDTH, CAP = 2, 3, 5, 7, 11, 1.7
SLOPES = torch.tensor([0.5, 0.25, 0.125])
BIAS = torch.tensor([[0.3, -1.0, 2.0, 0.0, 0.7, -0.2, 1.1], [1.0, 0.0, -math.inf, 0.4, -math.inf, 0.0, 0.2]])


def cap(score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return CAP * torch.tanh(score / CAP)


def nearer(score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return score - SLOPES[head] * (q_idx - kv_idx).abs()


def biased(score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return score + BIAS[batch, kv_idx]


def capped_then_nearer(score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return nearer(cap(score, batch, head, q_idx, kv_idx), batch, head, q_idx, kv_idx)


def biased_then_capped(score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return cap(biased(score, batch, head, q_idx, kv_idx), batch, head, q_idx, kv_idx)


SAME: dict[str, tuple[ScoreMod | None, ScoreMod]] = {
    "softcap": (Softcap(CAP), cap),
    "slopes": (DistanceBias(SLOPES), nearer),
    "key bias": (KeyBias(BIAS), biased),
    "softcap, then slopes": (chained(Softcap(CAP), None, DistanceBias(SLOPES)), capped_then_nearer),
    "key bias, then softcap": (chained(KeyBias(BIAS), Softcap(CAP)), biased_then_capped),
    "softcap, then a function": (chained(Softcap(CAP), nearer), capped_then_nearer),
}


def attended(score_mod: ScoreMod | None, dtype: torch.dtype, backend: str = "eager", **masks: Any) -> list[Tensor]:
    """The output, and where that is possible the gradients of q, k and v."""
    generator = torch.Generator().manual_seed(3)
    shapes = [(BATCH, HEADS, length, WIDTH) for length in (QUERIES, KEYS, KEYS)]
    trains = backend == "eager"
    q, k, v = (torch.randn(shape, generator=generator).to(dtype).requires_grad_(trains) for shape in shapes)
    bound = Mask(causal=True, query_offset=1, **masks).bind(BATCH, QUERIES, KEYS)
    rest = {"scale": 0.6, "dropout": 0.0, "mask_mod": None, "normaliser": None}
    output = backends()[backend].attend(q, k, v, bound, score_mod=score_mod, **rest)
    return [output, *(torch.autograd.grad(output.square().sum(), (q, k, v)) if trains else ())]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("name", SAME)
def test_the_bits_are_those_of_a_function(name: str, dtype: torch.dtype) -> None:
    ours, function = SAME[name]
    for one, other in zip(attended(ours, dtype), attended(function, dtype), strict=True):
        assert torch.equal(one, other)


def test_a_bias_of_minus_infinity_hides_the_key() -> None:
    keep = BIAS.isfinite()
    hidden = BIAS.masked_fill(keep, 0.0)
    masked = attended(None, torch.float64, key_keep=keep)
    for one, other in zip(attended(KeyBias(hidden), torch.float64), masked, strict=True):
        assert_close(one, other, rtol=0, atol=1e-15)


@pytest.mark.parametrize("order", [1, -1])
def test_what_comes_first_is_done_first(order: int) -> None:
    steps = [Softcap(2.0), DistanceBias(torch.tensor([0.5]))][::order]
    zero, three = torch.tensor(0), torch.tensor(3)
    expected = 2 * math.tanh(5 / 2) - 1.5 if order == 1 else 2 * math.tanh((5 - 1.5) / 2)
    found = chained(*steps)
    assert found is not None
    assert found(torch.tensor(5.0), zero, zero, zero, three).item() == pytest.approx(expected, rel=1e-6)


def test_a_request_says_what_happens_to_scores_and_in_which_order() -> None:
    assert kinds(None) == kinds(chained()) == kinds(chained(None, None)) == ()
    assert chained(None, nearer) is nearer
    assert kinds(nearer) == kinds(DistanceBias(SLOPES.clone().requires_grad_())) == ("function",)
    inner = chained(Softcap(1.0), nearer)
    assert kinds(chained(inner, KeyBias(BIAS), DistanceBias(SLOPES))) == (
        *("softcap", "function"),
        *("key_bias", "distance_bias"),
    )
    # As nobody who chains makes it.
    assert "function" in kinds(Chain((Softcap(1.0), Chain((Softcap(1.0), Softcap(1.0))))))


@pytest.mark.parametrize(
    ("variant", "options", "expected"),
    [
        ("multi_head", {}, ()),
        ("multi_head", {"softcap": 5.0}, ("softcap",)),
        ("alibi", {}, ("distance_bias",)),
        ("alibi", {"softcap": 5.0}, ("softcap", "distance_bias")),
        ("relative_bias", {"softcap": 5.0}, ("softcap", "function")),
    ],
)
def test_the_fused_kernels_run_what_they_know(
    variant: str, options: dict[str, Any], expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = build_attention(variant, d_model=24, num_heads=3, **options)
    (call,) = trace_attend(module, d_model=24, d_context=24)
    assert call.request.score_mod == expected
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    of = {variant: options}
    (triton,) = (
        found
        for found in capabilities(d_model=24, num_heads=3, devices=["cuda"], options=of, variants=[variant])
        if found.backend == "triton"
    )
    assert triton.runs == ("function" not in expected)


@pytest.mark.slow
def test_flex_compiles_them() -> None:
    score_mod = chained(Softcap(CAP), DistanceBias(SLOPES), KeyBias(BIAS))
    with torch.no_grad():
        (found,) = attended(score_mod, torch.float32, backend="flex")
    assert_close(found, attended(score_mod, torch.float32)[0].detach(), rtol=0, atol=2e-6)
