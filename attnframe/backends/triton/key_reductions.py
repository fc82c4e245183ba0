"""The kernel for what keys are given. Each program owns a key tile: no atomics, so equal inputs give equal bits."""

from __future__ import annotations

import triton
import triton.language as tl

from attnframe.backends.triton.masked_tiles import kept_in_tile, masked_unless, may_attend, tiles_of_queries
from attnframe.backends.triton.tiles import load_tile

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)
FARTHEST: tl.constexpr = tl.constexpr(2**31 - 1)


@triton.jit(do_not_specialize=["heads", "key_heads", "queries", "keys", "query_offset", "window", "num_edges"])
def reduce_keys(
    q,
    k,
    key_keep,
    lse,
    edges,
    received,
    tile_mass,
    bucket_mass,
    q_batch,
    q_head,
    q_row,
    k_batch,
    k_head,
    k_row,
    heads,
    key_heads,
    queries,
    keys,
    query_offset,
    window,
    num_edges,
    scale,
    HEAD_DIM: tl.constexpr,
    PADDED_HEAD_DIM: tl.constexpr,
    PADDED_BUCKETS: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr,
    KEY_KEEP: tl.constexpr,
    POOLED: tl.constexpr,
    PROFILE: tl.constexpr,
    WIDEN: tl.constexpr,
    TILE_Q: tl.constexpr,
    TILE_K: tl.constexpr,
):
    """One key tile for one head of one sequence: sums of p = e^{s - LSE} over the rows that count.

    `lse` is contiguous [batch, heads, queries] in float32, +inf for a row that does not count. The results are
    contiguous float32: `received` [batch, heads, keys]; `tile_mass` [batch, heads, query tiles, key tiles], zero before
    the launch, for tiles that a mask hides are not visited; and `bucket_mass` [batch, heads, key tiles, num_edges + 1]
    by distance, key less query, with `edges` in ascending order as the last distances of all buckets but the last.
    POOLED and PROFILE say whether the latter two are there.
    """
    tiles = tl.cdiv(keys, TILE_K)
    tile = tl.program_id(0) % tiles
    batch = (tl.program_id(0) // tiles // heads).to(tl.int64)
    head = (tl.program_id(0) // tiles % heads).to(tl.int64)
    row = batch * heads + head
    first_key = tile * TILE_K
    q += batch * q_batch + head * q_head
    key_keep += batch * keys
    lse += row * queries
    tile_mass += row * tl.cdiv(queries, TILE_Q) * tiles + tile
    key_tile = load_tile(
        k + batch * k_batch + (head * key_heads // heads) * k_head,
        first_key,
        k_row,
        keys,
        TILE_K,
        HEAD_DIM,
        PADDED_HEAD_DIM,
        True,
        WIDEN,
    )
    # Summed element by element, and across the tile once at the end.
    sums = tl.zeros([TILE_K, TILE_Q], tl.float32)
    buckets = tl.zeros([PADDED_BUCKETS], tl.float32)
    first, before, inside, after = tiles_of_queries(
        first_key, queries, query_offset, window, TILE_Q, TILE_K, CAUSAL, WINDOW
    )
    # What is past the last key is masked everywhere: unlike a sum for each key, one over keys would take it in.
    whole = first_key + TILE_K <= keys
    if KEY_KEEP:
        some, each = kept_in_tile(key_keep, first_key, keys, TILE_K)
        whole = whole & each & some
    before, inside, after = masked_unless(whole, before, inside, after)
    if KEY_KEEP:
        before = tl.where(some, before, 0)
    sums, buckets = _keys_over_queries(
        sums, buckets, key_tile, q, key_keep, lse, edges, tile_mass, q_row, tiles,
        first + before * TILE_Q, inside, 0, 0, first_key, queries, keys, query_offset, window, num_edges, scale,
        HEAD_DIM, PADDED_HEAD_DIM, PADDED_BUCKETS, CAUSAL, WINDOW, KEY_KEEP, POOLED, PROFILE, WIDEN, TILE_Q, TILE_K,
        False,
    )  # fmt: skip
    sums, buckets = _keys_over_queries(
        sums, buckets, key_tile, q, key_keep, lse, edges, tile_mass, q_row, tiles,
        first, before + after, before, inside, first_key, queries, keys, query_offset, window, num_edges, scale,
        HEAD_DIM, PADDED_HEAD_DIM, PADDED_BUCKETS, CAUSAL, WINDOW, KEY_KEEP, POOLED, PROFILE, WIDEN, TILE_Q, TILE_K,
        True,
    )  # fmt: skip
    key_idx = first_key + tl.arange(0, TILE_K)
    tl.store(received + row * keys + key_idx, tl.sum(sums, axis=1), mask=key_idx < keys)
    if PROFILE:
        number = tl.arange(0, PADDED_BUCKETS)
        bucket_mass += (row * tiles + tile) * (num_edges + 1)
        tl.store(bucket_mass + number, buckets, mask=number <= num_edges)


@triton.jit
def _keys_over_queries(
    sums,
    buckets,
    key_tile,
    q,
    key_keep,
    lse,
    edges,
    tile_mass,
    q_row,
    tiles,
    first_query,
    count,
    gap_at,
    gap,
    first_key,
    queries,
    keys,
    query_offset,
    window,
    num_edges,
    scale,
    HEAD_DIM: tl.constexpr,
    PADDED_HEAD_DIM: tl.constexpr,
    PADDED_BUCKETS: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr,
    KEY_KEEP: tl.constexpr,
    POOLED: tl.constexpr,
    PROFILE: tl.constexpr,
    WIDEN: tl.constexpr,
    TILE_Q: tl.constexpr,
    TILE_K: tl.constexpr,
    EDGE: tl.constexpr,
):
    """(sums, buckets) after `count` tiles from `first_query` on, where `gap` tiles are left out after `gap_at`; stores
    the mass of each tile. Scores stand as [key, query]."""
    key_idx = first_key + tl.arange(0, TILE_K)
    for number in range(0, count):
        at = first_query + number * TILE_Q
        if EDGE:
            at = tl.where(number < gap_at, at, at + gap * TILE_Q)
        query_tile = load_tile(q, at, q_row, queries, TILE_Q, HEAD_DIM, PADDED_HEAD_DIM, EDGE, WIDEN)
        query_idx = at + tl.arange(0, TILE_Q)
        row_lse = tl.load(lse + query_idx, mask=query_idx < queries, other=float("inf"))
        scores = tl.dot(key_tile, tl.trans(query_tile), input_precision="ieee")
        x = (scores * scale - row_lse[None, :]) * LOG2_E
        if EDGE:
            allowed = may_attend(
                query_idx[None, :],
                key_idx[:, None],
                queries,
                keys,
                query_offset,
                window,
                key_keep,
                CAUSAL,
                WINDOW,
                KEY_KEEP,
            )
            # Before e^x, which may be past the end of float32 where a hidden score is greater than all others.
            x = tl.where(allowed, x, float("-inf"))
        p = tl.exp2(x)
        sums += p
        mass = 0.0
        if POOLED or PROFILE:
            mass = tl.sum(p)
        if POOLED:
            tl.store(tile_mass + tl.cast(at // TILE_Q, tl.int64) * tiles, mass)
        if PROFILE:
            nearest = first_key - (at + TILE_Q - 1 + query_offset)
            bucket = tl.arange(0, PADDED_BUCKETS)
            last = tl.load(edges + bucket, mask=bucket < num_edges, other=FARTHEST)
            lowest = tl.sum((last < nearest).to(tl.int32))
            highest = tl.sum((last < nearest + (TILE_Q + TILE_K - 2)).to(tl.int32))
            # Away from the diagonal, where buckets are wide, most tiles lie in one.
            alone = lowest == highest
            buckets += tl.where((bucket == lowest) & alone, mass, 0.0)
            for n in range(lowest, tl.where(alone, lowest, highest + 1)):
                distance = key_idx[:, None] - (query_idx + query_offset)[None, :]
                above = tl.load(edges + n - 1, mask=n > 0, other=-FARTHEST)
                below = tl.load(edges + n, mask=n < num_edges, other=FARTHEST)
                part = tl.sum(tl.where((distance > above) & (distance <= below), p, 0.0))
                buckets += tl.where(bucket == n, part, 0.0)
    return sums, buckets
