"""Looking at one call with torch's profiler: the names of what really ran, and the most memory that was in use."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch._C._autograd import DeviceType
from torch.profiler import ProfilerActivity, profile

_MEMORY = "[memory]"

# On a CPU an operator stands for its kernel. These are whole attentions, whichever of their parts took longest.
_FUSED = re.compile(r"aten::_\w*scaled_dot_product\w*|## Call CompiledFxGraph .*")
_OPERATOR = re.compile(r"aten::\w+")
_MOST_NAMES = 8


def kernels_of(call: Callable[[], object], device: torch.device) -> tuple[str, ...]:
    """Call it once, and name what ran."""
    with _profile(device) as profiler:
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    return kernel_names(profiler.key_averages(), device.type)


def peak_bytes(call: Callable[[], object], device: torch.device) -> int:
    """Call it once; the most memory that it has in use at once, beyond what is before the call.

    On CUDA, of what torch's allocator has given there. On a CPU the same, from the profiler's record of each tensor:
    neither Python nor a library's own scratch is in it. `call` must not free what is there before.
    """
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        call()
        torch.cuda.synchronize(device)
        return torch.cuda.max_memory_allocated(device) - before
    with _profile(device, profile_memory=True) as profiler:
        call()
    return _peak_of_record(profiler)


def _profile(device: torch.device, *, profile_memory: bool = False) -> profile:
    # Its own lines on standard error say that it begins and ends.
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device.type == "cuda" else [])]
    return profile(activities=activities, profile_memory=profile_memory, acc_events=True)


def kernel_names(events: Iterable[Any], device: str) -> tuple[str, ...]:
    """Names of `events`, averages of the profiler, by the time that they took themselves, longest first.

    On CUDA the kernels. On a CPU the operators of aten, and before them those that are a whole attention.
    """
    if device == "cuda":
        ran = [event for event in events if event.device_type == DeviceType.CUDA]
        ran.sort(key=lambda event: -event.self_device_time_total)
    else:
        ran = [event for event in events if _FUSED.fullmatch(event.key) or _OPERATOR.fullmatch(event.key)]
        ran.sort(key=lambda event: (_FUSED.fullmatch(event.key) is None, -event.self_cpu_time_total))
    return tuple(dict.fromkeys(event.key for event in ran))[:_MOST_NAMES]


def short_name(kernel: str) -> str:
    """`kernel` without what a compiler adds: namespaces, template arguments, parameters, digests."""
    if graph := re.fullmatch(r"## Call (CompiledFxGraph \w{8})\w* ##", kernel):
        return graph[1]
    name = kernel.removeprefix("void ")
    while (shorter := re.sub(r"<[^<>]*>", "", name)) != name:
        name = shorter
    name = re.sub(r"\(anonymous namespace\)::|\(.*", "", name)
    return name if name.startswith("aten::") else name.rpartition("::")[2] or kernel


def _peak_of_record(profiler: profile) -> int:
    # The record is only in the trace, as a file.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(file))
        trace = json.loads(file.read_text(encoding="utf-8", errors="replace"))
    changes = [event for event in trace["traceEvents"] if event.get("name") == _MEMORY]
    now = peak = 0
    for event in sorted(changes, key=lambda event: event["ts"]):
        if event["args"]["Device Type"] == DeviceType.CPU.value:
            now += event["args"]["Bytes"]
            peak = max(peak, now)
    return peak
