"""Times of calls that take turns, and which kernels they ran."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

ROUNDS = 15
LEAST = 10.0
"""Milliseconds that one turn takes at least, so that launching is not what is measured."""

Timed = Callable[[Callable[[], Any], int], float]
"""Milliseconds for so many calls one after the other."""


def on_gpu(call: Callable[[], Any], times: int) -> float:
    """By the GPU's own clock, from the first call's start to the last one's end."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    for _ in range(times):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end)


def interleaved(
    calls: Mapping[str, Callable[[], Any]], timed: Timed, *, rounds: int = ROUNDS, least: float = LEAST
) -> dict[str, list[float]]:
    """Milliseconds a call of each, round by round. In every round each has its turn, and each round begins with
    another, so that a GPU that gets hot or slow does so for all."""
    times = {}
    for name, call in calls.items():
        timed(call, 2)
        times[name] = max(1, min(200, math.ceil(least / max(timed(call, 3) / 3, 1e-6))))
    found: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    for number in range(rounds if order else 0):
        turn = number % len(order)
        for name in order[turn:] + order[:turn]:
            found[name].append(timed(calls[name], times[name]) / times[name])
    return found


def spread(rounds: Sequence[float]) -> dict[str, float | list[float]]:
    """Median, least and greatest of the rounds, and all of them."""
    return {
        "median": statistics.median(rounds),
        "least": min(rounds),
        "greatest": max(rounds),
        "rounds": [round(x, 6) for x in rounds],
    }


def peak_mib(call: Callable[[], Any]) -> float:
    """What one call has allocated at once, beside what there was."""
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def kernels(call: Callable[[], Any]) -> list[dict[str, Any]]:
    """[{name, ms}] of what one call ran on the GPU, the longest first; nothing where the profiler sees nothing."""
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
        call()
        torch.cuda.synchronize()
    spent: dict[str, float] = {}
    for event in seen.events():
        if event.device_type == DeviceType.CUDA:
            spent[event.name] = spent.get(event.name, 0.0) + event.time_range.elapsed_us() / 1000
    return [{"name": name, "ms": round(ms, 6)} for name, ms in sorted(spent.items(), key=lambda item: -item[1])]
