"""Reductions of a pattern on any device, a chunk of queries at a time: memory is linear in the lengths."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attnframe.backends.base import MaskMod, ScoreMod, allowed, index_grid
from attnframe.backends.reduced_pattern import KeyReductions, RowReductions, counted_rows, key_reductions_of

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from attnframe.attention.mask import Mask

# Scores that are formed at a time; of a single query all are.
_CHUNK = 2**20
_FARTHEST = 2**31


def row_reductions(
    q: Float[Tensor, "batch heads query head_dim"],
    k: Float[Tensor, "batch key_heads key head_dim"],
    mask: Mask,
    *,
    scale: float,
    query_position: Float[Tensor, "batch query"],
    key_position: Float[Tensor, "batch key"],
    score_mod: ScoreMod | None = None,
    mask_mod: MaskMod | None = None,
) -> RowReductions:
    """As `reductions.row_reductions`, with positions given."""
    queries, keys = q.shape[2], k.shape[2]
    rows = q.new_zeros(*q.shape[:3], dtype=wide_dtype(q))
    blind = RowReductions(
        rows - torch.inf, rows, rows, rows.long() - 1, *(torch.full_like(rows, torch.nan) for _ in range(2))
    )
    if 0 in (queries, keys):
        return blind
    found = []
    for start, scores in _chunks(q, k, mask, scale, score_mod, mask_mod):
        end = start + scores.shape[2]
        lse = scores.logsumexp(-1)
        weights = (scores - lse[..., None].where(lse[..., None] != -torch.inf, 0.0)).exp()
        away = (query_position[:, start:end, None] - key_position[:, None]).abs()[:, None]
        found.append(
            (
                lse,
                torch.special.entr(weights).sum(-1),
                weights.amax(-1),
                scores.argmax(-1),
                (weights * key_position[:, None, None]).sum(-1),
                (weights * away).sum(-1),
            )
        )
    whole = [torch.cat(parts, dim=-1) for parts in zip(*found, strict=True)]
    is_blind = whole[0] == -torch.inf
    of_blind = [getattr(blind, field.name) for field in dataclasses.fields(blind)]
    return RowReductions(*(x.where(~is_blind, other) for x, other in zip(whole, of_blind, strict=True)))


def key_reductions(
    q: Float[Tensor, "batch heads query head_dim"],
    k: Float[Tensor, "batch key_heads key head_dim"],
    lse: Float[Tensor, "batch heads query"],
    mask: Mask,
    *,
    scale: float,
    query_keep: Bool[Tensor, "batch query"] | None = None,
    block: int | None = None,
    edges: Sequence[int] | None = None,
    sinks: int = 1,
    score_mod: ScoreMod | None = None,
    mask_mod: MaskMod | None = None,
) -> KeyReductions:
    """As `reductions.key_reductions`."""
    batch, heads, queries, _ = q.shape
    keys = k.shape[2]
    counted = counted_rows(lse, query_keep)
    # e^{s - inf} is 0.
    lse = lse.to(wide_dtype(q)).where(counted, torch.inf)
    received = lse.new_zeros(batch, heads, keys)
    block_mass = bucket_mass = None
    if block is not None:
        block_mass = lse.new_zeros(batch, heads, -(-queries // block), -(-keys // block))
    if edges is not None:
        bucket_mass = lse.new_zeros(batch, heads, len(edges) + 1)
    if 0 not in (queries, keys):
        for start, scores in _chunks(q, k, mask, scale, score_mod, mask_mod):
            weights = (scores - lse[..., start : start + scores.shape[2], None]).exp()
            received += weights.sum(2)
            if block is not None and block_mass is not None:
                _add_blocks(block_mass, weights, start, block)
            if edges is not None and bucket_mass is not None:
                _add_buckets(bucket_mass, weights, mask.query_offset + start, edges)
    return key_reductions_of(received, block_mass, bucket_mass, counted, mask, block=block, sinks=sinks)


def _chunks(
    q: Tensor, k: Tensor, mask: Mask, scale: float, score_mod: ScoreMod | None, mask_mod: MaskMod | None
) -> Iterator[tuple[int, Float[Tensor, "batch heads chunk key"]]]:
    """(first query, scores) of each chunk, -inf where a query may not attend."""
    wide = wide_dtype(q)
    batch, heads, queries, _ = q.shape
    key_heads, keys = k.shape[1:3]
    # Query heads that share a key head stand beside each other.
    k = k.to(wide).transpose(-2, -1)[:, :, None]
    rows = max(1, _CHUNK // (batch * heads * keys))
    for start in range(0, queries, rows):
        some = q[:, :, start : start + rows].to(wide)
        part = dataclasses.replace(mask, query_offset=mask.query_offset + start)
        part = part.bind(batch, some.shape[2], keys, q.device)
        scores = ((some * scale).unflatten(1, (key_heads, -1)) @ k).flatten(1, 2)
        if score_mod is not None:
            scores = score_mod(scores, *index_grid(scores.shape, part.query_offset, q.device)).to(wide)
        yield start, scores.masked_fill(~allowed(part, mask_mod, scores.shape, q.device), -torch.inf)


def _add_blocks(block_mass: Tensor, weights: Tensor, start: int, block: int) -> None:
    queries = weights.shape[-2]
    by_key_block = torch.stack([part.sum(-1) for part in weights.split(block, dim=-1)], dim=-1)
    of_row = torch.arange(start, start + queries, device=weights.device) // block
    first, last = start // block, (start + queries - 1) // block
    # A product, for an indexed sum has no fixed order on a GPU.
    belongs = torch.arange(first, last + 1, device=weights.device)[:, None] == of_row
    block_mass[:, :, first : last + 1] += belongs.to(weights.dtype) @ by_key_block


def _add_buckets(bucket_mass: Tensor, weights: Tensor, first: int, edges: Sequence[int]) -> None:
    queries, keys = weights.shape[-2:]
    position = torch.arange(first, first + queries, device=weights.device)[:, None]
    key = torch.arange(keys, device=weights.device)
    for number, (above, last) in enumerate(zip([-_FARTHEST, *edges], [*edges, _FARTHEST], strict=True)):
        # Of these keys alone is any in the bucket.
        begin = min(max(above + first + 1, 0), keys)
        end = min(max(last + first + queries, begin), keys)
        distance = key[begin:end] - position
        inside = (distance > above) & (distance <= last)
        bucket_mass[..., number] += weights[..., begin:end].where(inside, 0.0).sum((-2, -1))


def wide_dtype(q: Tensor) -> torch.dtype:
    """What is summed up in: float32, or float64 where q is."""
    return torch.promote_types(q.dtype, torch.float32)
