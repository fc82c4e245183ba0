"""What is left of a pattern when its [query, key] matrix is summed up: by row, and by key, block and distance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int

    from attnframe.attention.mask import Mask


@dataclass(frozen=True)
class RowReductions:
    """Each row of a pattern in numbers, [batch, heads, query]. Of a query that may attend to nothing: as they say."""

    lse: Float[Tensor, "batch heads query"]
    """ln Σ e^score over the keys; -inf."""
    entropy: Float[Tensor, "batch heads query"]
    """-Σ p ln p, in nats; 0."""
    largest_weight: Float[Tensor, "batch heads query"]
    """0 to 1; 0."""
    argmax: Int[Tensor, "batch heads query"]
    """The key with the largest weight, of equals the first; -1."""
    mean_position: Float[Tensor, "batch heads query"]
    """Σ p·(position of the key); NaN."""
    mean_distance: Float[Tensor, "batch heads query"]
    """Σ p·|position of the query - position of the key|; NaN."""


@dataclass(frozen=True)
class KeyReductions:
    """A pattern summed over its rows that count: those kept, of queries that may attend to anything."""

    rows: Int[Tensor, "batch heads"]
    """How many rows count."""
    received: Float[Tensor, "batch heads key"]
    """Σ p over the rows: what each key is given, in rows."""
    sink_mass: Float[Tensor, "batch heads"]
    """The mean over the rows of what goes to the first kept keys; 0 without any row."""
    pooled_map: Float[Tensor, "batch heads query_blocks key_blocks"] | None
    """The mean over the rows of a block of queries, summed over a block of keys: it sums to 1 over the keys, and is 0
    where no row of a block counts. None unless asked for."""
    distance_profile: Float[Tensor, "batch heads buckets"] | None
    """The mean over the rows of what goes to keys in each bucket of distances; it sums to 1, and is 0 without any row.
    None unless asked for."""


def distance_edges(farthest: int) -> list[int]:
    """Where buckets of distances end that double in width: ..., -7 to -4, -3 and -2, -1, 0, 1, 2 and 3, 4 to 7, ...

    The first and the last bucket begin at or before `farthest`, and take what is farther too.
    """
    ends = [2**n for n in range(max(farthest, 1).bit_length())]
    return [*(-end for end in reversed(ends)), 0, *(end - 1 for end in ends[1:])]


def counted_rows(
    lse: Float[Tensor, "batch heads query"], query_keep: Bool[Tensor, "batch query"] | None
) -> Bool[Tensor, "batch heads query"]:
    """Rows of kept queries that may attend to anything. NaN counts: a head that has diverged must not look blind."""
    counted = lse != -torch.inf
    return counted if query_keep is None else counted & query_keep[:, None]


def key_reductions_of(
    received: Float[Tensor, "batch heads key"],
    block_mass: Float[Tensor, "batch heads query_blocks key_blocks"] | None,
    bucket_mass: Float[Tensor, "batch heads buckets"] | None,
    counted: Bool[Tensor, "batch heads query"],
    mask: Mask,
    *,
    block: int | None,
    sinks: int,
) -> KeyReductions:
    """The means that go with these sums over the rows that count."""
    rows = counted.sum(-1)
    if mask.key_keep is None:
        first = torch.arange(received.shape[-1], device=received.device) < sinks
    else:
        first = (mask.key_keep & (mask.key_keep.cumsum(-1) <= sinks))[:, None]
    pooled_map = None
    if block is not None and block_mass is not None:
        starts = range(0, counted.shape[-1], block)
        of_block = [counted[..., start : start + block].sum(-1) for start in starts]
        pooled_map = block_mass / torch.stack(of_block, -1).clamp(min=1)[..., None] if of_block else block_mass
    return KeyReductions(
        rows,
        received,
        received.where(first, 0.0).sum(-1) / rows.clamp(min=1),
        pooled_map,
        None if bucket_mass is None else bucket_mass / rows.clamp(min=1)[..., None],
    )
