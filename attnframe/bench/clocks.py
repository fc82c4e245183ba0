"""Timing a call: with a clock of the processor, or with events of a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol, TypeVar

import torch

T = TypeVar("T")


class Clock(Protocol):
    """Times `repeats` calls of ``call(prepare())``; `prepare` is outside of what is timed."""

    def __call__(self, prepare: Callable[[], T], call: Callable[[T], object], repeats: int) -> float:
        """Seconds of one call, the mean."""


def clock_of(device: torch.device) -> Clock:
    """The one that fits `device`."""
    return gpu_clock if device.type == "cuda" else processor_clock


def processor_clock(prepare: Callable[[], T], call: Callable[[T], object], repeats: int) -> float:
    """Wall time of this process's calls."""
    total = 0.0
    for _ in range(repeats):
        prepared = prepare()
        begun = time.perf_counter()
        result = call(prepared)
        total += time.perf_counter() - begun
        # Here, for freeing what a call returns is not the call.
        del result, prepared
    return total / repeats


def gpu_clock(prepare: Callable[[], T], call: Callable[[T], object], repeats: int) -> float:
    """Time between two events of the current CUDA stream around each call.

    The calls follow each other without waiting, so that the GPU has the next one in its queue. A call that is shorter
    than it takes to launch it takes as long as that.
    """
    events = [(torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)) for _ in range(repeats)]
    torch.cuda.synchronize()
    for begun, ended in events:
        prepared = prepare()
        begun.record()
        call(prepared)
        ended.record()
        del prepared
    torch.cuda.synchronize()
    return sum(begun.elapsed_time(ended) for begun, ended in events) / 1e3 / repeats
