"""What the loops of our kernels issue, read off their binaries: a bound on speed that needs no GPU.

Run from the repository root, with triton installed: python benchmarks/kernel_loops.py [--dtype bfloat16]. Compiles each
kernel with its tiling for Hopper and prints, for the loop over tiles that no mask cuts: registers a thread, bytes that
spilled, instructions a score, and the cycles that a multiprocessor needs for one tile, of tensor cores and of all else:

* A product m64nNk16 takes N/2 cycles at the full rate, and at least as long as its factors need from shared memory at
  128 bytes a cycle, of which the right one is always there.
* A scheduler issues one instruction a cycle, and one exponential of a warp in eight.

`peak` is the share of the tensor cores' full rate that the products of the tile reach: the lowest, if tensor cores and
all else take turns, and the highest, if everything overlaps. Neither waits for memory, barriers or results: a kernel
may well stay below. (In the backward only five of the seven products that its two kernels compute are counted as FLOPs
elsewhere.) `options` are what a call asks for: nothing, statistics, or every mask and statistic.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "backends" / "triton_kernels")]

import torch  # noqa: E402
from compiling import EVERYTHING, NOTHING, compiled  # noqa: E402

from attnframe.backends.triton import tilings  # noqa: E402

KERNELS = ("forward", "backward_queries", "backward_keys", "reduce_rows", "reduce_keys")
OPTIONS = {
    "nothing": NOTHING,
    "statistics": NOTHING | {"STATISTICS": True, "ENTROPY": True, "POOLED": True, "PROFILE": True},
    "everything": EVERYTHING,
}
PRODUCTS = {"forward": 2, "backward_queries": 3, "backward_keys": 4, "reduce_rows": 1, "reduce_keys": 1}
"""Products that a kernel computes, each of 2·width operations a score."""

LINE = re.compile(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P[\dT]+ )?([A-Za-z0-9_.]+) *([^;]*);")
LABEL = re.compile(r"\s*(\.L_x_\d+):")
PRODUCT = re.compile(r"HGMMA\.64x(\d+)x16")


def innermost_loops(sass: str) -> Iterator[list[tuple[str, str]]]:
    """(name, operands) of the instructions of each loop that multiplies and holds no other such loop."""
    labels: dict[str, int] = {}
    instructions: list[tuple[str, str]] = []
    begun = -1
    for line in sass.splitlines():
        if label := LABEL.match(line):
            labels[label[1]] = len(instructions)
        elif instruction := LINE.match(line):
            instructions.append((instruction[1], instruction[2]))
            target = re.search(r"\.L_x_\d+", instruction[2])
            if not instruction[1].startswith("BRA") or not target or target[0] not in labels:
                continue
            loop = instructions[labels[target[0]] :]
            if labels[target[0]] > begun and any(PRODUCT.match(name) for name, _ in loop):
                begun = labels[target[0]]
                yield loop


def tensor_cycles(loop: list[tuple[str, str]]) -> float:
    """Of one warpgroup."""
    total = 0.0
    for name, operands in loop:
        if product := PRODUCT.match(name):
            columns = int(product[1])
            # A left factor of 64 x 16 and a right one of 16 x columns, two bytes each.
            left = 16 if operands.split(", ")[1 if operands.startswith("R") else 0].startswith("gdesc") else 0
            total += max(columns / 2, left + columns / 4)
    return total


def other_cycles(loop: list[tuple[str, str]], warps: int) -> float:
    """Of one of the four schedulers, which share the warps."""
    exponentials = sum(name.startswith("MUFU") for name, _ in loop)
    return max(len(loop), 8 * exponentials) * warps / 4


def line(kernel: str, dtype: str, width: int, option: str) -> str:
    how = tilings.entry(kernel, "sm_90", getattr(torch, dtype), width)
    binary = compiled("sm_90", dtype, width, kernel, OPTIONS[option])
    # The first is the one that no mask cuts.
    loop = next(innermost_loops(binary.instructions))
    scores = how["TILE_Q"] * how["TILE_K"]
    tensor = tensor_cycles(loop) * how["num_warps"] / 4
    other = other_cycles(loop, how["num_warps"])
    full_rate = PRODUCTS[kernel] * scores * width / 2048
    tile = f"{how['TILE_Q']}x{how['TILE_K']}, {how['num_warps']} warps"
    share = f"{full_rate / (tensor + other):.0%} - {full_rate / max(tensor, other):.0%}"
    a_score = len(loop) / (scores / (32 * how["num_warps"]))
    return (
        f"{kernel:17}{width:>5}  {tile:18}{option:12}{binary.registers:>9}{binary.spilled_bytes:>7}"
        f"{a_score:>9.1f}{tensor:>8.0f}{other:>8.0f}  {share}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dtype", choices=("bfloat16", "float16"), default="bfloat16")
    dtype = parser.parse_args().dtype
    print("kernel           width  tile              options     registers  spills  a score  tensor    else  peak")
    for width in sorted(int(width) for width in tilings.table()["sm_90"][dtype]):
        for kernel in KERNELS:
            for option in OPTIONS:
                print(line(kernel, dtype, width, option), flush=True)
