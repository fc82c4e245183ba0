"""How far the reduction kernels are from sums over the formula's pattern in float64, and how far they may be."""

from __future__ import annotations

import itertools
from typing import Any
from unittest import mock

import torch
from kernel_cases import Case, inputs, key_keep_of, scale_of
from kernel_errors import GREAT_SCORE, STATISTIC, allowed, formula, poisoned_memory
from torch import Tensor

from attnframe import Mask
from attnframe.backends import attention_weights, chunked_reductions, reductions

EDGES = [-33, -16, -2, -1, 0, 5, 40]
SINKS = 3
# Blocks of whole tiles: those of few queries in the interpreter, and all others.
BLOCKS = (32, 128)

# Greatest error of a share, absolute, and of a sum of shares or a position, relative to the greatest of them.
SHARES = ("largest_weight", "sink_mass", "pooled_map", "distance_profile")
SUMS = ("received", "mean_position", "mean_distance")


def pattern_sums(weights: Tensor, blind: Tensor, case: Case, keep: Tensor, block: int) -> dict[str, Tensor]:
    """Of a pattern [batch, heads, query, key] all that the kernels give, with `keep` as the kept queries, in blocks of
    block x block."""
    batch, heads, queries, keys = weights.shape
    query, key = (torch.arange(n, dtype=weights.dtype) for n in (queries, keys))
    distance = (key - query[:, None] - case.query_offset).round()
    counted = ~blind & keep[:, None]
    rows = counted.sum(-1)
    shares = weights.where(counted[..., None], 0.0)
    kept = key_keep_of(case, torch.device("cpu"))
    kept = torch.ones(batch, keys, dtype=torch.bool) if kept is None else kept
    first = kept & (kept.cumsum(-1) <= SINKS)
    ends = [-torch.inf, *EDGES, torch.inf]
    in_bucket = [(distance > above) & (distance <= last) for above, last in itertools.pairwise(ends)]
    pooled = [
        torch.stack([part.sum((-2, -1)) for part in strip.split(block, dim=-1)], -1)
        / of_rows.sum(-1).clamp(min=1)[..., None]
        for strip, of_rows in zip(shares.split(block, dim=-2), counted.split(block, dim=-1), strict=True)
    ]
    return {
        "largest_weight": weights.amax(-1) if keys else torch.zeros_like(blind, dtype=weights.dtype),
        "mean_position": (weights * key).sum(-1).masked_fill(blind, torch.nan),
        "mean_distance": (weights * distance.abs()).sum(-1).masked_fill(blind, torch.nan),
        "received": shares.sum(-2),
        "sink_mass": (shares * first[:, None, None]).sum((-2, -1)) / rows.clamp(min=1),
        "pooled_map": torch.stack(pooled, -2) if keys else weights.new_zeros(batch, heads, len(pooled), 0),
        "distance_profile": torch.stack([(shares * inside).sum((-2, -1)) for inside in in_bucket], -1)
        / rows.clamp(min=1)[..., None],
    }


def measure(case: Case, dtype_name: str, device: torch.device, repeats: int | None = None) -> dict[str, Any]:
    """Runs the case on the kernels `repeats` times (unless given twice where it is `fast`, else once), into memory full
    of NaN. Errors as {quantity: [the kernels', eager's]}, and what must hold exactly."""
    from attnframe.backends.triton.reductions import takes

    q, k, v = (x.detach() for x in inputs(case, getattr(torch, dtype_name), device))
    mask = Mask(key_keep_of(case, device), case.causal, case.window, case.query_offset)
    mask = mask.bind(case.batch, case.queries, case.keys, device)
    keep = (torch.arange(case.queries) % 5 != 1).expand(case.batch, -1)
    block = BLOCKS[case.queries >= 256 or device.type == "cuda"]
    assert takes(block, EDGES, q)

    def run() -> dict[str, Tensor]:
        # In the interpreter too, and nothing by chunks.
        with (
            poisoned_memory(),
            mock.patch.object(reductions, "_kernels_take", return_value=True),
            mock.patch.object(chunked_reductions, "_chunks", side_effect=AssertionError),
        ):
            rows = reductions.row_reductions(q, k, mask, scale=scale_of(case))
            sums = reductions.key_reductions(
                q,
                k,
                rows.lse,
                mask,
                scale=scale_of(case),
                query_keep=keep.to(device),
                block=block,
                edges=EDGES,
                sinks=SINKS,
            )
        return {name: x.cpu() for name, x in {**vars(rows), **vars(sums)}.items()}

    found, *others = [run() for _ in range(repeats or 1 + case.fast)]
    right = {name: x.detach() for name, x in formula(case, q, k, v).items()}
    blind = ~allowed(case).any(-1).expand(-1, case.heads, -1)
    own = attention_weights(q, k, mask, scale=scale_of(case)).cpu()
    expected, by_eager = (pattern_sums(x.double(), blind, case, keep, block) for x in (right["weights"], own))
    errors = {name: [_error(x[name], expected[name], name) for x in (found, by_eager)] for name in expected}
    errors |= {name: [_error(found[name], right[name], name), 0.0] for name in ("lse", "entropy")}
    # Which of two nearly equal weights is the greater is a matter of rounding: the chosen one is as good.
    chosen = found["argmax"].clamp(min=0)[..., None]
    as_good = expected["largest_weight"] - right["weights"].gather(-1, chosen)[..., 0] if case.keys else torch.zeros(1)
    errors["argmax"] = [as_good.abs().max().item(), 0.0]
    return {
        "errors": errors,
        "greatest_score": max(right["max_score"][~blind].abs().tolist(), default=0.0),
        "same_bits": all(
            torch.equal(x.nan_to_num(), again[name].nan_to_num()) for again in others for name, x in found.items()
        ),
        "blind_rows_are_marked": bool(
            torch.equal(found["argmax"] == -1, blind) and torch.equal(found["mean_position"].isnan(), blind)
        ),
        "first_of_equals": scale_of(case) != 0.0 or torch.equal(found["argmax"], _first_allowed(case)),
        "rows_are_right": torch.equal(found["rows"], (~blind & keep[:, None]).sum(-1)),
    }


def complaints(case: Case, dtype_name: str, measured: dict[str, Any]) -> list[str]:
    """What is wrong with the result of `measure`, a line each."""
    exact = ("same_bits", "blind_rows_are_marked", "first_of_equals", "rows_are_right")
    wrong = [what for what in exact if not measured[what]]
    for name, (error, own) in measured["errors"].items():
        limit = STATISTIC["float32"]
        if measured["greatest_score"] > GREAT_SCORE:
            # Of scores in the thousands nobody has more decimals than their float32.
            limit = max(limit, 3 * own, measured["greatest_score"] * 2.0**-22)
        if not error <= limit:
            wrong.append(f"{name} is off by {error:.3g}, eager by {own:.3g}; the limit is {limit:.3g}")
    return wrong


def _error(found: Tensor, expected: Tensor, name: str) -> float:
    apart = (found.double() - expected).masked_fill((found == expected) | (found.isnan() & expected.isnan()), 0.0)
    size = expected.nan_to_num(0.0).abs().max().item() if name in SUMS and expected.numel() else 1.0
    return apart.abs().max().item() / max(size, 1.0) if apart.numel() else 0.0


def _first_allowed(case: Case) -> Tensor:
    keep = allowed(case)
    if not case.keys:
        return torch.full((case.batch, case.heads, case.queries), -1)
    return torch.where(keep.any(-1), keep.int().argmax(-1), -1).expand(-1, case.heads, -1)
