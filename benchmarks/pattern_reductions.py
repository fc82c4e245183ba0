"""What summing a pattern up costs without holding it, against forming it: time and peak memory, side by side.

Run from the repository root: python benchmarks/pattern_reductions.py [--device cpu|cuda] [--lengths 1024 2048 4096]
[--heads 16] [--head-dim 64] [--dtype float32] [--causal] [--repeats 5]. Both sides compute the same from the same q and
k of one sequence: log-sum-exp, entropy, largest weight, argmax, mean position and distance of each row, what each key
receives, the map in blocks of 128, and the profile over distances. `formed` makes the whole pattern by `eager` and sums
over it; `summed up` is `attnframe.backends.reductions`: on a GPU the Triton kernels, on a CPU chunks of queries. Each
length and side is a process of its own; a line gives the median time after one call that is not counted, and the peak
memory above what was there before: on a GPU what torch allocated, on a CPU what the process grew by.

Expected on an H200 at 4096, bfloat16: at least 4 times faster and 100 times less memory. Expected on a CPU at 4096: 10
times less memory, and about as long: the products are the same, and chunks that stay in the cache save what a second
product costs.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import torch

from attnframe import Mask
from attnframe.backends import attention_weights
from attnframe.backends.reductions import distance_edges, key_reductions, row_reductions

BLOCK = 128


def summed_up(q: torch.Tensor, k: torch.Tensor, mask: Mask) -> object:
    rows = row_reductions(q, k, mask)
    return rows, key_reductions(q, k, rows.lse, mask, block=BLOCK, edges=distance_edges(q.shape[2]))


@torch.no_grad()
def formed(q: torch.Tensor, k: torch.Tensor, mask: Mask) -> object:
    """With as few matrices at a time as torch takes: the weights, and one beside them."""
    queries, keys = q.shape[2], k.shape[2]
    wide = torch.promote_types(q.dtype, torch.float32)
    weights = attention_weights(q, k, mask, scale=q.shape[-1] ** -0.5).to(wide)
    largest, argmax = weights.max(-1)
    key = torch.arange(keys, device=q.device)
    distance = key - torch.arange(queries, device=q.device)[:, None]
    entropy = torch.special.entr(weights).sum(-1)
    # From the greatest weight, which is e^{score - LSE}.
    greatest = (q.to(wide) * k.to(wide).take_along_dim(argmax[..., None], 2)).sum(-1) * q.shape[-1] ** -0.5
    lse = greatest - largest.log()
    position, away = weights @ key.to(wide), (weights * distance.abs()).sum(-1)
    pooled = weights.unflatten(-1, (-1, BLOCK)).sum(-1).unflatten(-2, (-1, BLOCK)).mean(-2)
    edges = torch.tensor(distance_edges(queries), device=q.device)
    bucket = torch.bucketize(distance, edges)
    profile = torch.stack([weights.where(bucket == n, 0.0).sum((-2, -1)) for n in range(len(edges) + 1)], -1)
    return lse, entropy, largest, argmax, position, away, weights.sum(-2), pooled, profile / queries


SIDES: dict[str, Callable[[torch.Tensor, torch.Tensor, Mask], object]] = {"formed": formed, "summed up": summed_up}


def measure(side: str, length: int, options: argparse.Namespace) -> tuple[float, float]:
    """(seconds, peak MiB) of one side at one length."""
    device = torch.device(options.device)
    shape = 1, options.heads, length, options.head_dim
    torch.manual_seed(0)
    q, k = (torch.randn(shape, device=device, dtype=getattr(torch, options.dtype)) for _ in range(2))
    mask = Mask(causal=options.causal).bind(1, length, length, device)
    # What the first call of anything loads is not the pattern's.
    warm = Mask(causal=options.causal).bind(1, BLOCK, BLOCK, device)
    SIDES[side](q[:, :, :BLOCK], k[:, :, :BLOCK], warm)
    before = _peak(device)
    seconds = []
    for _ in range(options.repeats + 1):
        _wait(device)
        start = time.perf_counter()
        SIDES[side](q, k, mask)
        _wait(device)
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:]), _peak(device, again=True) - before


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak(device: torch.device, again: bool = False) -> float:
    if device.type == "cuda":
        if not again:
            torch.cuda.reset_peak_memory_stats(device)
        return (torch.cuda.max_memory_allocated(device) if again else torch.cuda.memory_allocated(device)) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # KiB on Linux


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 2048, 4096], help=f"multiples of {BLOCK}")
    parser.add_argument("--heads", type=int, default=16)
    parser.add_argument("--head-dim", type=int, default=64)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "bfloat16"])
    parser.add_argument("--causal", action="store_true")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.one, options.lengths[0], options)))
        return
    where = (
        torch.cuda.get_device_name() if options.device.startswith("cuda") else f"CPU, {torch.get_num_threads()} threads"
    )
    print(f"{where}; {options.heads} heads of {options.head_dim} in {options.dtype}{', causal' * options.causal}")
    for length in options.lengths:
        found = {}
        for side in SIDES:
            command = [sys.executable, __file__, *sys.argv[1:], "--lengths", str(length), "--one", side]
            found[side] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        (slow, large), (fast, small) = found["formed"], found["summed up"]
        print(
            f"length {length}: formed {slow * 1000:.1f} ms, {large:.1f} MiB; summed up {fast * 1000:.1f} ms, "
            f"{small:.1f} MiB; {slow / fast:.2f} times as fast, {large / max(small, 0.1):.1f} times less memory",
            flush=True,
        )


if __name__ == "__main__":
    main()
