"""What a pattern sums up to, from q, k and the log-sum-exp of each row: never with a [query, key] matrix in memory.

On a GPU the kernels of `backends.triton` compute it where they can; everything else is computed a chunk of queries at a
time. Nothing here has gradients: what is measured is detached. The log-sum-exp, the entropy and the greatest score with
gradients are a by-product of the kernels' forward (`backends.triton.attention`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attnframe.backends import chunked_reductions
from attnframe.backends.base import MaskMod, Request, ScoreMod
from attnframe.backends.reduced_pattern import KeyReductions, RowReductions, distance_edges
from attnframe.backends.triton.backend import Triton

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from attnframe.attention.mask import Mask

__all__ = ["KeyReductions", "RowReductions", "distance_edges", "key_reductions", "row_reductions"]


@torch.no_grad()
def row_reductions(
    q: Float[Tensor, "batch heads query head_dim"],
    k: Float[Tensor, "batch key_heads key head_dim"],
    mask: Mask,
    *,
    scale: float | None = None,
    query_position: Float[Tensor, "batch query"] | None = None,
    key_position: Float[Tensor, "batch key"] | None = None,
    score_mod: ScoreMod | None = None,
    mask_mod: MaskMod | None = None,
) -> RowReductions:
    """Log-sum-exp, entropy, largest weight, argmax, mean position and distance of each row, in one pass over the keys.

    `mask` is bound to the lengths; `scale` is 1/√head_dim unless given. Positions are in any unit: unless given, keys
    count from 0 and queries from the mask's `query_offset`. In float32, or float64 where q is. Raises `ValueError` for
    shapes that do not fit together.
    """
    _check(q, k, mask)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    batch, queries, keys = mask.shape
    if query_position is None:
        query_position = torch.arange(mask.query_offset, mask.query_offset + queries, device=q.device)
        query_position = query_position.to(chunked_reductions.wide_dtype(q)).expand(batch, -1)
    if key_position is None:
        key_position = torch.arange(keys, device=q.device, dtype=chunked_reductions.wide_dtype(q)).expand(batch, -1)
    for name, position, length in (("query", query_position, queries), ("key", key_position, keys)):
        if position.shape != (batch, length):
            raise ValueError(f"{name}_position is {list(position.shape)}, the call needs {[batch, length]}")
    with torch.autocast(q.device.type, enabled=False):
        if _kernels_take(q, k, score_mod, mask_mod):
            from attnframe.backends.triton import reductions as kernels

            return kernels.row_reductions(
                q, k, mask, scale=scale, query_position=query_position, key_position=key_position
            )
        return chunked_reductions.row_reductions(
            q,
            k,
            mask,
            scale=scale,
            query_position=query_position,
            key_position=key_position,
            score_mod=score_mod,
            mask_mod=mask_mod,
        )


@torch.no_grad()
def key_reductions(
    q: Float[Tensor, "batch heads query head_dim"],
    k: Float[Tensor, "batch key_heads key head_dim"],
    lse: Float[Tensor, "batch heads query"],
    mask: Mask,
    *,
    scale: float | None = None,
    query_keep: Bool[Tensor, "batch query"] | None = None,
    block: int | None = None,
    edges: Sequence[int] | None = None,
    sinks: int = 1,
    score_mod: ScoreMod | None = None,
    mask_mod: MaskMod | None = None,
) -> KeyReductions:
    """What each key is given, the mass on the first `sinks` kept keys, and with `block` and `edges` the map in blocks
    of block x block and the profile over distances, in one pass over the queries.

    `lse` is ln Σ e^score of each row, from `row_reductions` or a kernel's forward. Rows count that `query_keep` keeps
    and that may attend to anything. A distance is the index of the key less that of the query, which counts from the
    mask's `query_offset`; bucket n has those in (edges[n - 1], edges[n]], the first and the last without an end
    (`distance_edges`). The rest is as in `row_reductions`. Raises `ValueError` for edges that do not ascend, a `block`
    below 1 and shapes that do not fit together.
    """
    _check(q, k, mask)
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    batch, queries, _ = mask.shape
    if lse.shape != q.shape[:3]:
        raise ValueError(f"lse is {list(lse.shape)}, the call needs {list(q.shape[:3])}")
    if query_keep is not None and query_keep.shape != (batch, queries):
        raise ValueError(f"query_keep is {list(query_keep.shape)}, the call needs {[batch, queries]}")
    if block is not None and block < 1:
        raise ValueError(f"block={block}: a block has 1 query and key or more")
    if edges is not None and list(edges) != sorted(set(edges)):
        raise ValueError(f"edges={list(edges)} must ascend")
    with torch.autocast(q.device.type, enabled=False):
        if _kernels_take(q, k, score_mod, mask_mod):
            from attnframe.backends.triton import reductions as kernels

            if kernels.takes(block, edges, q):
                return kernels.key_reductions(
                    q, k, lse, mask, scale=scale, query_keep=query_keep, block=block, edges=edges, sinks=sinks
                )
        return chunked_reductions.key_reductions(
            q,
            k,
            lse,
            mask,
            scale=scale,
            query_keep=query_keep,
            block=block,
            edges=edges,
            sinks=sinks,
            score_mod=score_mod,
            mask_mod=mask_mod,
        )


def _check(q: Tensor, k: Tensor, mask: Mask) -> None:
    batch, heads, queries, head_dim = q.shape
    if (k.shape[0], k.shape[3]) != (batch, head_dim) or not k.shape[1] or heads % k.shape[1]:
        raise ValueError(
            f"q {list(q.shape)}, k {list(k.shape)}: batch and head_dim must agree, and the key heads divide the heads"
        )
    if mask.shape != (batch, queries, k.shape[2]):
        raise ValueError(f"the mask is for {mask.shape}, the call for {(batch, queries, k.shape[2])}")


def _kernels_take(q: Tensor, k: Tensor, score_mod: ScoreMod | None, mask_mod: MaskMod | None) -> bool:
    heads, key_heads, width = q.shape[1], k.shape[1], q.shape[-1]
    request = Request(q.device.type, q.dtype, heads, key_heads, width, width, mask_mod=mask_mod is not None)
    # Scores changed by a name that the attention kernels know are unknown to these.
    return score_mod is None and not Triton().unsupported(request)
