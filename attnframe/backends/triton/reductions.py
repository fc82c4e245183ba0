"""Reductions of a pattern on the Triton kernels. Importing this imports triton."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import triton
from torch import Tensor

from attnframe.backends.reduced_pattern import KeyReductions, RowReductions, counted_rows, key_reductions_of
from attnframe.backends.triton.key_reductions import reduce_keys
from attnframe.backends.triton.launching import as_bytes, launch, padded, rows_contiguous, sizes, strides
from attnframe.backends.triton.row_reductions import reduce_rows
from attnframe.backends.triton.tilings import INTERPRETED, tiling

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from attnframe.attention.mask import Mask

KERNELS = {"reduce_rows": reduce_rows, "reduce_keys": reduce_keys}

MOST_EDGES = 255
"""Each program holds the mass of every bucket."""


def takes(block: int | None, edges: Sequence[int] | None, q: Tensor) -> bool:
    """Whether the kernel has blocks of this size, which are whole tiles, and as many buckets of distances."""
    how = tiling("reduce_keys", q, q)
    fits = block is None or (block % how["TILE_Q"] == 0 and block % how["TILE_K"] == 0)
    return fits and (edges is None or (len(edges) <= MOST_EDGES and all(abs(edge) < 2**31 for edge in edges)))


def row_reductions(
    q: Float[Tensor, "batch heads query head_dim"],
    k: Float[Tensor, "batch key_heads key head_dim"],
    mask: Mask,
    *,
    scale: float,
    query_position: Float[Tensor, "batch query"],
    key_position: Float[Tensor, "batch key"],
) -> RowReductions:
    """As `backends.reductions.row_reductions`, with positions given; they and the results are in float32."""
    q, k, scale = _ready(q, k, scale)
    batch, heads, queries, _ = q.shape
    lse, log_sum, entropy, position, distance = (
        q.new_empty(batch, heads, queries, dtype=torch.float32) for _ in range(5)
    )
    argmax = lse.new_empty(lse.shape, dtype=torch.int32)
    if lse.numel():
        how = tiling("reduce_rows", q, k)
        launch(
            reduce_rows,
            triton.cdiv(queries, how["TILE_Q"]) * heads * batch,
            q,
            k,
            as_bytes(mask.key_keep, q),
            query_position.float().contiguous(),
            key_position.float().contiguous(),
            lse,
            log_sum,
            entropy,
            argmax,
            position,
            distance,
            *strides(q, k),
            *sizes(q, k, mask.query_offset, mask.window),
            scale,
            EXACT=q.dtype == torch.float32,
            **_constants(q, mask),
            **how,
        )
    # The largest weight is 1 over Σ e^{s - greatest}; a GPU rounds the difference once, and may end up just above 1.
    largest = (-log_sum).exp().clamp(max=1.0).where(lse != -torch.inf, 0.0)
    return RowReductions(lse, entropy, largest, argmax.long(), position, distance)


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
) -> KeyReductions:
    """As `backends.reductions.key_reductions`, for what it `takes`, in float32."""
    q, k, scale = _ready(q, k, scale)
    batch, heads, queries, _ = q.shape
    keys = k.shape[2]
    how = tiling("reduce_keys", q, k)
    tiles = triton.cdiv(queries, how["TILE_Q"]), triton.cdiv(keys, how["TILE_K"])
    counted = counted_rows(lse, query_keep)
    received = q.new_empty(batch, heads, keys, dtype=torch.float32)
    # Of what is not asked for there is still a pointer.
    tile_mass = received.new_zeros(batch, heads, *tiles) if block is not None else received
    bucket_mass = received if edges is None else received.new_empty(batch, heads, tiles[1], len(edges) + 1)
    if received.numel():
        launch(
            reduce_keys,
            tiles[1] * heads * batch,
            q,
            k,
            as_bytes(mask.key_keep, q),
            lse.float().where(counted, torch.inf).contiguous(),
            torch.tensor(edges or [0], dtype=torch.int32, device=q.device),
            received,
            tile_mass,
            bucket_mass,
            *strides(q, k),
            *sizes(q, k, mask.query_offset, mask.window),
            0 if edges is None else len(edges),
            scale,
            PADDED_BUCKETS=padded(1 if edges is None else len(edges) + 1),
            POOLED=block is not None,
            PROFILE=edges is not None,
            **_constants(q, mask),
            **how,
        )
    block_mass = tile_mass
    if block is not None:
        block_mass = _added(_added(tile_mass, block // how["TILE_K"]).mT, block // how["TILE_Q"]).mT
    return key_reductions_of(
        received,
        None if block is None else block_mass,
        None if edges is None else bucket_mass.sum(2),
        counted,
        mask,
        block=block,
        sinks=sinks,
    )


def _ready(q: Tensor, k: Tensor, scale: float) -> tuple[Tensor, Tensor, float]:
    if scale <= 0:
        # The kernels find the greatest score before they scale it.
        q, scale = q * scale, 1.0
    return rows_contiguous(q), rows_contiguous(k), scale


def _constants(q: Tensor, mask: Mask) -> dict[str, int | bool]:
    return {
        "HEAD_DIM": q.shape[-1],
        "PADDED_HEAD_DIM": padded(q.shape[-1]),
        "CAUSAL": mask.causal,
        "WINDOW": mask.window is not None,
        "KEY_KEEP": mask.key_keep is not None,
        "WIDEN": INTERPRETED and q.dtype == torch.bfloat16,
    }


def _added(x: Tensor, count: int) -> Tensor:
    """The last axis summed in groups of `count`, the last of which may be smaller."""
    return torch.nn.functional.pad(x, (0, -x.shape[-1] % count)).unflatten(-1, (-1, count)).sum(-1)
