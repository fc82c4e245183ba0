"""Tiles of q, k and v, by pointers or descriptors: what all kernels share."""

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
        return tl.make_tensor_descriptor(base, [heads, limit, WIDTH], [head_stride, stride, 1], [1, ROWS, PADDED_WIDTH])
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
