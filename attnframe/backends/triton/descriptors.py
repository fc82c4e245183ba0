"""Whether tensors can be read through descriptors, by the copying engine that GPUs have since Hopper."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from attnframe.backends.triton.tilings import INTERPRETED, tiling

_ALIGNMENT = 16
"""In bytes: of the first element, and of every step to a next row, head or sequence. CUDA Driver API,
cuTensorMapEncodeTiled, https://docs.nvidia.com/cuda/cuda-driver-api/group__CUDA__TENSOR__MEMORY.html"""


def tiling_to_read(kernel: str, q: Tensor, v: Tensor, read: Sequence[Tensor], *, modified: bool) -> dict[str, int]:
    """The tiling of a kernel that reads `read` through descriptors, if each of them can be described."""
    by_head = kernel == "backward_keys"
    how = tiling(kernel, q, v, modified=modified, described=all(describable(x, by_head=by_head) for x in read))
    if how.get("DESCRIPTORS") and not INTERPRETED:
        # Each time, for it holds for the thread alone, and gradients have one of their own.
        triton.set_allocator(_memory)
    return how


def describable(x: Tensor, *, by_head: bool = False) -> bool:
    """Whether `x` [batch, heads, row, width], contiguous in the last axis, lies where descriptors can point.

    They point to the rows of one head, or `by_head` to those of several.
    """
    steps = [x.stride(axis) * x.element_size() for axis in range(3)]
    return (
        x.numel() > 0
        and min(steps[1:] if by_head else steps[2:]) > 0
        and x.data_ptr() % _ALIGNMENT == 0
        and all(step % _ALIGNMENT == 0 for step in steps)
    )


def _memory(size: int, alignment: int, stream: int | None) -> Tensor:
    # Where a kernel keeps the descriptors that it makes.
    return torch.empty(size, dtype=torch.int8, device="cuda")
