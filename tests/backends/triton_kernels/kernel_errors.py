"""How far the kernels are from the formula in float64, beside how far `eager` is in the same type, and how far they may
be."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from kernel_cases import Case, inputs, key_bias_of, key_keep_of, scale_of, slopes_of
from torch import Tensor

from attnframe.backends import DistanceBias, KeyBias, ScoreMod, Softcap, chained
from attnframe.backends.base import index_grid
from attnframe.backends.eager import masked_softmax, repeat_heads

Attend = Callable[..., dict[str, Tensor]]

ROWS = ("lse", "max_score", "entropy")
GRADIENTS = ("d_q", "d_k", "d_v", "d_key_bias")

# Relative Frobenius error, of the statistics the greatest absolute one; and beside eager: times its error, plus ulps.
OUTPUT = {"float32": 2e-6, "float16": 1.5e-3, "bfloat16": 8e-3}
GRADIENT = {"float32": 1e-5, "float16": 3e-3, "bfloat16": 1.5e-2}
STATISTIC = {"float32": 1e-5, "float16": 2e-3, "bfloat16": 1e-2}
BESIDE_EAGER = {"float32": (3, 0), "float16": (2, 2), "bfloat16": (2, 2)}
# With scores above this the LSE is right to 4 units in its last place; with scores above it before the softcap the rest
# may be 3 times as far off as eager.
GREAT_SCORE = 100.0


@functools.cache
def allowed(case: Case) -> Tensor:
    """Bool[batch, 1, query, key] as the case says it, pair by pair."""
    keep = key_keep_of(case, torch.device("cpu"))
    rows = [
        [
            [
                (not case.causal or j <= i + case.query_offset)
                and (case.window is None or abs(j - i - case.query_offset) <= case.window)
                for j in range(case.keys)
            ]
            for i in range(case.queries)
        ]
    ]
    pairs = torch.tensor(rows, dtype=torch.bool).reshape(1, 1, case.queries, case.keys)
    bias = key_bias_of(case, torch.device("cpu"))
    for of_keys in (keep, None if bias is None else bias != -torch.inf):
        if of_keys is not None:
            pairs = pairs & of_keys[:, None, None, :]
    return pairs.expand(case.batch, -1, -1, -1)


def modified(case: Case, scores: Tensor, key_bias: Tensor | None) -> Tensor:
    """The scores after softcap, slopes and biases, in their type, on the CPU."""
    if case.softcap is not None:
        scores = case.softcap * (scores / case.softcap).tanh()
    slopes = slopes_of(case, scores.device)
    if slopes is not None:
        places = torch.tensor([[abs(i + case.query_offset - j) for j in range(case.keys)] for i in range(case.queries)])
        scores = scores - slopes.to(scores.dtype)[:, None, None] * places.reshape(scores.shape[2:])
    return scores if key_bias is None else scores + key_bias.to(scores.dtype)[:, None, None, :]


def formula(case: Case, q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None = None) -> dict[str, Tensor]:
    """Output and statistics in float64 on the CPU, with gradients; without a softmax of torch."""
    q, k, v = (x.to("cpu", torch.float64) for x in (q, k, v))
    share = case.heads // case.key_heads
    products = torch.einsum("bhid,bhjd->bhij", q, k.repeat_interleave(share, 1)) * scale_of(case)
    scores = modified(case, products, None if key_bias is None else key_bias.cpu())
    keep = allowed(case).expand_as(scores)
    blind = ~keep.any(-1)
    # Shifted by a constant, which has no gradient.
    shift = scores.detach().masked_fill(~keep, -torch.inf).amax(-1) if case.keys else scores.new_zeros(blind.shape)
    shift = shift.masked_fill(blind, 0.0)
    powers = (scores - shift[..., None]).masked_fill(~keep, -torch.inf).exp()
    total = powers.sum(-1).masked_fill(blind, 1.0)
    weights = powers / total[..., None]
    log_weights = (scores - shift[..., None] - total.log()[..., None]).masked_fill(~keep, 0.0)
    return {
        "output": torch.einsum("bhij,bhjd->bhid", weights, v.repeat_interleave(share, 1)),
        "lse": (shift + total.log()).masked_fill(blind, -torch.inf),
        "max_score": shift.masked_fill(blind, -torch.inf),
        "entropy": -(weights * log_weights).sum(-1),
        "weights": weights,
        "products": products.masked_fill(~keep, 0.0),
    }


def eager(case: Case, q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None = None) -> dict[str, Tensor]:
    """The same as the backend `eager` has it, in the type of the inputs."""
    keep = allowed(case).to(q.device)
    scores = (q * scale_of(case)) @ repeat_heads(k, case.heads).transpose(-2, -1)
    score_mod = _score_mod(case, key_bias, q.device)
    if score_mod is not None:
        scores = score_mod(scores, *index_grid(scores.shape, case.query_offset, q.device))
    weights = masked_softmax(scores, keep)
    scores = scores.masked_fill(~keep, torch.finfo(scores.dtype).min)
    blind = ~keep.expand_as(scores).any(-1)
    lse = torch.logsumexp(scores, -1)
    log_weights = (scores - lse[..., None]).masked_fill(weights == 0, 0.0)
    return {
        "output": weights.to(v.dtype) @ repeat_heads(v, case.heads),
        "lse": lse.masked_fill(blind, -torch.inf),
        "entropy": -(weights * log_weights).sum(-1),
    }


def _score_mod(case: Case, key_bias: Tensor | None, device: torch.device) -> ScoreMod | None:
    slopes = slopes_of(case, device)
    return chained(
        None if case.softcap is None else Softcap(case.softcap),
        None if slopes is None else DistanceBias(slopes),
        None if key_bias is None else KeyBias(key_bias),
    )


def kernels(case: Case, q: Tensor, k: Tensor, v: Tensor, key_bias: Tensor | None = None) -> dict[str, Tensor]:
    """The same as the kernels have it."""
    from attnframe.backends.triton.attention import attention

    result = attention(
        q,
        k,
        v,
        scale=scale_of(case),
        causal=case.causal,
        window=case.window,
        query_offset=case.query_offset,
        key_keep=key_keep_of(case, q.device),
        statistics=case.statistics,
        softcap=case.softcap,
        slopes=slopes_of(case, q.device),
        key_bias=key_bias,
    )
    return {name: x for name, x in result._asdict().items() if x is not None}


def measure(
    case: Case, dtype_name: str, device: torch.device, repeats: int = 1, attend: Attend | None = None
) -> dict[str, Any]:
    """Runs the case `repeats` times into memory full of NaN, on the kernels or on what `attend` says. Errors of the
    first run as {quantity: [its own, eager's]}, and what must hold exactly."""
    tensors: tuple[Tensor, ...] = inputs(case, getattr(torch, dtype_name), device)
    key_bias = key_bias_of(case, device)
    if key_bias is not None:
        tensors = (*tensors, key_bias)
    # Leaves of their own, for the gradient of a narrow one would be rounded.
    exact = tuple(x.detach().to("cpu", torch.float64).requires_grad_() for x in tensors)
    expected, own = formula(case, *exact), eager(case, *tensors)
    cotangents = _cotangents(case, expected, tensors[0].dtype)
    blind = ~allowed(case).any(-1).expand(-1, case.heads, -1)
    runs = []
    for _ in range(repeats):
        with poisoned_memory():
            found = (attend or kernels)(case, *tensors)
            runs.append((found, _gradients(found, cotangents, tensors, blind)))
    found, d_found = runs[0]
    d_expected = _gradients(expected, cotangents, exact, blind)
    d_own = _gradients(own, cotangents, tensors, blind)
    errors = {"output": [_relative(x["output"], expected["output"]) for x in (found, own)]}
    for name in ROWS:
        if name in found:
            errors[name] = [_greatest(x.get(name, found[name]), expected[name]) for x in (found, own)]
    errors |= {
        name: [_relative(one, right), _relative(other, right)]
        for name, one, other, right in zip(GRADIENTS[: len(tensors)], d_found, d_own, d_expected, strict=True)
    }
    return {
        "errors": errors,
        "greatest_score": max(expected["max_score"][~blind].abs().tolist(), default=0.0),
        "greatest_product": max(expected["products"].amax(-1).flatten().tolist(), default=0.0) if case.keys else 0.0,
        "finite": all(bool(x.isfinite().all()) for x in (found["output"], *d_found)),
        "blind_rows_are_zero": bool(
            (found["output"][blind.to(device)] == 0).all()
            and (d_found[0][blind.to(device)] == 0).all()
            and ("lse" not in found or (found["lse"][blind.to(device)] == -torch.inf).all())
            and ("entropy" not in found or (found["entropy"][blind.to(device)] == 0).all())
        ),
        "repeats_are_equal": all(
            torch.equal(one, other)
            for again, d_again in runs[1:]
            for one, other in zip((*found.values(), *d_found), (*again.values(), *d_again), strict=True)
        ),
        # For oracles that this process does not load.
        "statistics": {name: found[name].detach().cpu().double().flatten().tolist() for name in ROWS if name in found},
    }


def complaints(case: Case, dtype_name: str, measured: dict[str, Any], beside_eager: bool = True) -> list[str]:
    """What is wrong with the result of `measure`, a line each; `beside_eager` is whether its error counts too."""
    wrong = [what for what in ("finite", "blind_rows_are_zero", "repeats_are_equal") if not measured[what]]
    greatest, uncapped = measured["greatest_score"], measured["greatest_product"]
    times, ulps = BESIDE_EAGER[dtype_name]
    for name, (error, own) in measured["errors"].items():
        limit = {"output": OUTPUT, **dict.fromkeys(ROWS, STATISTIC)}.get(name, GRADIENT)[dtype_name]
        beside = max(times * own + ulps * torch.finfo(getattr(torch, dtype_name)).eps, torch.finfo(torch.float32).eps)
        if name in ("lse", "max_score"):
            last_place = 2.0 ** (math.frexp(greatest)[1] - 24)
            limit = 4 * last_place if greatest > GREAT_SCORE else limit
        elif max(greatest, uncapped) > GREAT_SCORE:
            limit = max(limit, 3 * own)
        elif name == "output" and beside_eager:
            limit = min(limit, beside)
        if not error <= limit:
            wrong.append(f"{name} is off by {error:.3g}, eager by {own:.3g}; the limit is {limit:.3g}")
    return wrong


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Within it, what is allocated and never written is NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _cotangents(case: Case, expected: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(31)
    names = ("output", "lse", "entropy") if case.statistics else ("output",)
    # Rounded to what all three can hold.
    return {
        name: torch.randn(expected[name].shape, generator=generator).to(dtype if name == "output" else torch.float32)
        for name in names
    }


def _gradients(
    values: dict[str, Tensor], cotangents: dict[str, Tensor], tensors: tuple[Tensor, ...], blind: Tensor
) -> tuple[Tensor, ...]:
    outputs, weights = [], []
    for name, cotangent in cotangents.items():
        value = values[name]
        if name == "lse":
            value, cotangent = value[~blind.to(value.device)], cotangent[~blind]
        if value.requires_grad:
            outputs.append(value)
            weights.append(cotangent.to(value.device, value.dtype))
    if not outputs:
        return tuple(torch.zeros_like(x) for x in tensors)
    return torch.autograd.grad(outputs, tensors, weights, materialize_grads=True)


def _relative(actual: Tensor, expected: Tensor) -> float:
    difference = (actual.detach().to("cpu", torch.float64) - expected.detach().cpu().double()).norm()
    norm = expected.detach().cpu().double().norm()
    return (difference / norm).item() if norm > 0 else difference.item()


def _greatest(actual: Tensor, expected: Tensor) -> float:
    actual, expected = actual.detach().to("cpu", torch.float64), expected.detach()
    apart = (actual - expected).masked_fill(actual == expected, 0.0)
    return apart.abs().max().item() if apart.numel() else 0.0
