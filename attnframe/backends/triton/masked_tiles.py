"""Which tiles of scores a kernel visits, and which scores of a tile count."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def may_attend(
    query_idx,
    key_idx,
    queries,
    keys,
    query_offset,
    window,
    key_keep,
    CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr,
    KEY_KEEP: tl.constexpr,
):
    """Where a query may attend to a key, for indices that broadcast to the tile."""
    position = query_idx + query_offset
    # The last key is found by row, so that a score costs one comparison.
    last = tl.where(query_idx < queries, keys - 1, -1)
    if CAUSAL:
        last = tl.minimum(last, position)
    if WINDOW:
        last = tl.minimum(last, position + window)
    allowed = key_idx <= last
    if WINDOW:
        allowed = allowed & (key_idx >= position - window)
    if KEY_KEEP:
        allowed = allowed & (tl.load(key_keep + key_idx, mask=key_idx < keys, other=0) != 0)
    return allowed


@triton.jit
def kept_keys(key_keep, keys, CHUNK: tl.constexpr = 2048):
    """(end, whole): the keys that one sequence keeps are before `end`, and whether they are all that are."""
    count = tl.zeros([CHUNK], tl.int32)
    end = tl.zeros([CHUNK], tl.int32)
    for first in range(0, keys, CHUNK):
        key_idx = first + tl.arange(0, CHUNK)
        kept = tl.load(key_keep + key_idx, mask=key_idx < keys, other=0) != 0
        count += kept.to(tl.int32)
        end = tl.where(kept, key_idx + 1, end)
    last = tl.max(end)
    return last, tl.sum(count) == last


@triton.jit
def kept_in_tile(key_keep, first_key, keys, TILE_K: tl.constexpr):
    """(any, all): whether one sequence keeps any, and all, of the keys of a tile."""
    key_idx = first_key + tl.arange(0, TILE_K)
    kept = tl.load(key_keep + key_idx, mask=key_idx < keys, other=0) != 0
    return tl.max(kept.to(tl.int32)) != 0, tl.min((kept | (key_idx >= keys)).to(tl.int32)) != 0


@triton.jit
def tiles_of_keys(
    first_query,
    keys,
    query_offset,
    window,
    TILE_Q: tl.constexpr,
    TILE_K: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr,
):
    """(first, before, inside, after): the keys that count for a query tile, as a row of tiles from key `first` on. Of
    the `inside` ones in the middle everything counts; those before and after them are cut by an edge of the mask."""
    lowest = first_query + query_offset
    highest = lowest + TILE_Q - 1
    begin = 0
    end = keys
    inner_begin = 0
    inner_end = keys // TILE_K
    if CAUSAL:
        end = tl.minimum(end, tl.maximum(highest + 1, 0))
        inner_end = tl.minimum(inner_end, tl.maximum(lowest + 1, 0) // TILE_K)
    if WINDOW:
        begin = tl.maximum(lowest - window, 0) // TILE_K
        end = tl.minimum(end, tl.maximum(highest + window + 1, 0))
        inner_begin = tl.cdiv(tl.maximum(highest - window, 0), TILE_K)
        inner_end = tl.minimum(inner_end, tl.maximum(lowest + window + 1, 0) // TILE_K)
    return _row_of_tiles(begin, inner_begin, inner_end, tl.cdiv(end, TILE_K), TILE_K)


@triton.jit
def tiles_of_queries(
    first_key,
    queries,
    query_offset,
    window,
    TILE_Q: tl.constexpr,
    TILE_K: tl.constexpr,
    CAUSAL: tl.constexpr,
    WINDOW: tl.constexpr,
):
    """The same of the queries for which a key tile counts."""
    lowest = first_key - query_offset
    highest = lowest + TILE_K - 1
    begin = 0
    end = queries
    inner_begin = 0
    inner_end = queries // TILE_Q
    if CAUSAL:
        begin = tl.maximum(lowest, 0) // TILE_Q
        inner_begin = tl.cdiv(tl.maximum(highest, 0), TILE_Q)
    if WINDOW:
        begin = tl.maximum(begin, tl.maximum(lowest - window, 0) // TILE_Q)
        inner_begin = tl.maximum(inner_begin, tl.cdiv(tl.maximum(highest - window, 0), TILE_Q))
        end = tl.minimum(end, tl.maximum(highest + window + 1, 0))
        inner_end = tl.minimum(inner_end, tl.maximum(lowest + window + 1, 0) // TILE_Q)
    return _row_of_tiles(begin, inner_begin, inner_end, tl.cdiv(end, TILE_Q), TILE_Q)


@triton.jit
def _row_of_tiles(begin, inner_begin, inner_end, end, TILE: tl.constexpr):
    # A narrow mask has no inside, one that is out of sight nothing at all.
    end = tl.maximum(end, begin)
    inner_begin = tl.minimum(inner_begin, end)
    inner_end = tl.minimum(tl.maximum(inner_end, inner_begin), end)
    return begin * TILE, inner_begin - begin, inner_end - inner_begin, end - inner_end


@triton.jit
def masked_unless(whole, before, inside, after):
    """(before, inside, after) of a row of tiles, all of them before the inside unless `whole`."""
    every = before + inside + after
    return tl.where(whole, before, every), tl.where(whole, inside, 0), tl.where(whole, after, 0)
