"""How large the tiles are and how many warps work on one: data, by triton, architecture, dtype and head width."""

from __future__ import annotations

import functools
import json
from importlib.resources import files
from typing import Any

import torch
import triton
from torch import Tensor

INTERPRETED: bool = triton.knobs.runtime.interpret
"""Whether kernels run in the interpreter, on the CPU: TRITON_INTERPRET=1 since before triton was imported."""

_NAMES = ("TILE_Q", "TILE_K", "num_warps", "num_stages", "DESCRIPTORS")

WIDEST = 128
"""The greatest head_dim or value_dim."""


@functools.cache
def table() -> dict[str, Any]:
    """{architecture: {dtype: {width: {kernel: [TILE_Q, TILE_K, num_warps, num_stages]}}}} for the triton that is
    installed; a fifth entry, DESCRIPTORS, says that tiles are read through descriptors (`descriptors`), and that the
    entry is for tensors that can be. `tilings.json` has such a table for each version of triton from which on it holds.

    `width` is the greatest padded head width that an entry is for. "<kernel>, modified" is there where scores with a
    softcap or biases need more registers than the kernel's own entry leaves. `any` stands for every architecture
    without one of its own, and reads by pointers; its tiles fit the 99 KB of shared memory that every GPU since Ampere
    has.
    """
    loaded: dict[str, Any] = json.loads(files("attnframe.backends.triton").joinpath("tilings.json").read_text("utf-8"))
    return _of_version(loaded, triton.__version__)


def _of_version(tables: dict[str, Any], version: str) -> Any:
    """The last table that began no later than `version`; for an older one the first there is."""
    first, *later = sorted(tables, key=_numbers)
    begun = [first, *(since for since in later if _numbers(since) <= _numbers(version))]
    return tables[begun[-1]]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def tiling(kernel: str, q: Tensor, v: Tensor, *, modified: bool = False, described: bool = False) -> dict[str, int]:
    """Keyword arguments for the launch of a kernel on these tensors, by its name in the table.

    `modified` says that scores have a softcap or biases, `described` that descriptors can be made of what it reads.
    """
    if INTERPRETED:
        # Small, so that short sequences have several; on long ones small tiles would take minutes.
        long, short = (32, 16) if q.shape[2] < 256 else (128, 64)
        how = dict(
            zip(("TILE_Q", "TILE_K"), (short, long) if kernel == "backward_keys" else (long, short), strict=True)
        )
        # As on Hopper.
        return {**how, "DESCRIPTORS": True} if described and q.dtype != torch.float32 else how
    width = max(q.shape[-1], v.shape[-1])
    return entry(kernel, _architecture(q.device.index or 0), q.dtype, width, modified=modified, described=described)


def entry(
    kernel: str, architecture: str, dtype: torch.dtype, width: int, *, modified: bool = False, described: bool = True
) -> dict[str, int]:
    """The table's entry for heads of this width. Raises `ValueError` past `WIDEST`."""
    by_dtype = table().get(architecture) or table()["any"]
    by_width = by_dtype[str(dtype).removeprefix("torch.")]
    for limit, kernels in sorted(by_width.items(), key=lambda item: int(item[0])):
        if width <= int(limit):
            own = kernels[kernel]
            # Those of a kernel without descriptors are four.
            how = dict(zip(_NAMES, kernels.get(f"{kernel}, modified", own) if modified else own, strict=False))
            if how.get("DESCRIPTORS") and not described:
                return entry(kernel, "any", dtype, width, modified=modified)
            return how
    raise ValueError(f"the kernels hold head widths up to {WIDEST}, this one is {width}")


@functools.cache
def _architecture(device: int) -> str:
    major, minor = torch.cuda.get_device_capability(device)
    return f"sm_{major}{minor}"
