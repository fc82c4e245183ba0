"""What a launch of any of the kernels needs: strides, sizes, pointers that stand in, options of the compiler."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

from attnframe.backends.triton.tilings import INTERPRETED


def launch(kernel: Any, programs: int, *arguments: Any, **constants: Any) -> None:
    """Run `programs` of a kernel on the device of its first argument."""
    # Triton takes the current one.
    with torch.cuda.device_of(arguments[0]):
        kernel[(programs,)](*arguments, **constants, **launch_options())


def launch_options() -> dict[str, bool]:
    """What a launch says to the compiler beside the tiling."""
    # Said, for the default is about to change: x·y + z is one instruction, with one rounding.
    return {} if INTERPRETED else {"enable_fp_fusion": True}


def padded(width: int) -> int:
    """The width of the tile that holds `width`: a power of two, of which the tensor cores want 16 at least."""
    return max(16, triton.next_power_of_2(width))


def rows_contiguous(x: Tensor) -> Tensor:
    """`x`, or a copy of it, in which the last axis is without gaps."""
    return x if x.stride(-1) == 1 else x.contiguous()


def as_bytes(key_keep: Tensor | None, stand_in: Tensor) -> Tensor:
    """`key_keep` as the kernels read it."""
    # A kernel without key_keep is still given a pointer, and does not follow it.
    return stand_in if key_keep is None else key_keep.contiguous().view(torch.uint8)


def strides(*tensors: Tensor) -> list[int]:
    """Of batch, head and row of each."""
    return [x.stride(axis) for x in tensors for axis in range(3)]


def sizes(q: Tensor, k: Tensor, query_offset: int, window: int | None) -> list[int]:
    """heads, key_heads, queries, keys, query_offset, window."""
    # Wider than the sequence is as wide as it, and the sum with a position fits 32 bits.
    furthest = q.shape[2] + k.shape[2] + abs(query_offset)
    return [
        q.shape[1],
        k.shape[1],
        q.shape[2],
        k.shape[2],
        query_offset,
        min(furthest if window is None else window, furthest),
    ]
