"""Tiles of q, k and v, and which of their scores count: what all kernels share."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_tile(
    base,
    first,
    stride,
    limit,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED_WIDTH: tl.constexpr,
    BOUNDED: tl.constexpr,
    WIDEN: tl.constexpr,
    DESCRIBED: tl.constexpr = False,
):
    """Rows `first` to `first + ROWS` as [ROWS, PADDED_WIDTH]; zeros past WIDTH and, where BOUNDED, from row `limit` on.

    DESCRIBED says that `base` is what `described` made, and no pointer. WIDEN makes float32 of it, for the interpreter,
    which multiplies bfloat16 as if it were whole numbers.
    """
    if DESCRIBED:
        tile = base.load([first, 0])
    else:
        tile = _load_by_pointers(base, first, stride, limit, ROWS, WIDTH, PADDED_WIDTH, BOUNDED)
    return tile.to(tl.float32) if WIDEN else tile


@triton.jit
def _load_by_pointers(
    base,
    first,
    stride,
    limit,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED_WIDTH: tl.constexpr,
    BOUNDED: tl.constexpr,
):
    rows = tl.arange(0, ROWS)
    columns = tl.arange(0, PADDED_WIDTH)
    # Only the scalar is 64 bits wide: it may pass 2³¹, the offsets within a tile do not.
    pointers = base + tl.cast(first, tl.int64) * stride + (rows[:, None] * stride + columns[None, :])
    if BOUNDED and PADDED_WIDTH != WIDTH:
        tile = tl.load(pointers, mask=(first + rows[:, None] < limit) & (columns[None, :] < WIDTH), other=0.0)
    elif BOUNDED:
        tile = tl.load(pointers, mask=first + rows[:, None] < limit, other=0.0)
    elif PADDED_WIDTH != WIDTH:
        tile = tl.load(pointers, mask=columns[None, :] < WIDTH, other=0.0)
    else:
        tile = tl.load(pointers)
    return tile


@triton.jit
def described(
    base, stride, limit, ROWS: tl.constexpr, WIDTH: tl.constexpr, PADDED_WIDTH: tl.constexpr, DESCRIBED: tl.constexpr
):
    """`base` itself, or where DESCRIBED a descriptor of its rows below `limit`: hardware copies its tiles whole."""
    if DESCRIBED:
        return tl.make_tensor_descriptor(base, [limit, WIDTH], [stride, 1], [ROWS, PADDED_WIDTH])
    else:
        return base


@triton.jit
def load_tile_of_head(
    base,
    head,
    head_stride,
    first,
    stride,
    limit,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED_WIDTH: tl.constexpr,
    BOUNDED: tl.constexpr,
    WIDEN: tl.constexpr,
    DESCRIBED: tl.constexpr,
):
    """`load_tile` of one of several heads; DESCRIBED says that `base` is what `described_heads` made."""
    if DESCRIBED:
        tile = base.load([head, first, 0]).reshape(ROWS, PADDED_WIDTH)
        return tile.to(tl.float32) if WIDEN else tile
    else:
        base += tl.cast(head, tl.int64) * head_stride
        return load_tile(base, first, stride, limit, ROWS, WIDTH, PADDED_WIDTH, BOUNDED, WIDEN)


@triton.jit
def described_heads(
    base,
    heads,
    head_stride,
    stride,
    limit,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED_WIDTH: tl.constexpr,
    DESCRIBED: tl.constexpr,
):
    """`base` itself, or where DESCRIBED one descriptor of the rows below `limit` of `heads` heads."""
    if DESCRIBED:
        return tl.make_tensor_descriptor(
            base, [heads, limit, WIDTH], [head_stride, stride, 1], [1, ROWS, PADDED_WIDTH]
        )
    else:
        return base


@triton.jit
def store_tile(
    base,
    tile,
    first,
    stride,
    limit,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    PADDED_WIDTH: tl.constexpr,
    WIDEN: tl.constexpr = False,
):
    """Writes rows `first` to `first + ROWS` below row `limit`, in the type that `base` points to."""
    if WIDEN:
        tile = _rounded(tile)
    rows = tl.arange(0, ROWS)
    columns = tl.arange(0, PADDED_WIDTH)
    pointers = base + tl.cast(first, tl.int64) * stride + (rows[:, None] * stride + columns[None, :])
    inside = (first + rows[:, None] < limit) & (columns[None, :] < WIDTH)
    tl.store(pointers, tile.to(base.dtype.element_ty), mask=inside)


@triton.jit
def factor(tile, other, WIDEN: tl.constexpr):
    """A float32 tile as the factor of `other`, in its type; with WIDEN in float32, of which it is the same number."""
    return _rounded(tile) if WIDEN else tile.to(other.dtype)


@triton.jit
def _rounded(tile):
    """Float32 to the nearest bfloat16, in float32: what hardware does, where the interpreter cuts digits off."""
    bits = tile.to(tl.int32, bitcast=True)
    nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) & -65536
    return tl.where(tile == tile, nearest.to(tl.float32, bitcast=True), tile)


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
