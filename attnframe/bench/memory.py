"""How much memory is free and may be needed, and which error says that there was not enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch

_OF_A_CPU = ("can't allocate memory", "not enough memory")


def free_bytes(device: torch.device) -> int | None:
    """What can still be had on a CPU; None on a GPU, which refuses what is too much, and where nobody says."""
    if device.type != "cpu":
        return None
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def expected_bytes(known: Sequence[tuple[int, int]], length: int) -> float:
    """The peak at `length` from those at shorter lengths: it goes on as from the last but one to the last of `known`,
    and where there is one only, with the square of the length, as a [query, key] matrix does."""
    (last, peak), power = known[-1], 2.0
    if len(known) > 1 and 0 < known[-2][1] < peak:
        power = min(power, math.log(peak / known[-2][1]) / math.log(last / known[-2][0]))
    return peak * (length / last) ** power


def too_large(known: Sequence[tuple[int, int]], length: int, device: torch.device) -> str:
    """Why `length` is not tried, after the lengths and peaks in `known`; empty where it is.

    For a CPU, where the system ends a process that takes more than there is.
    """
    free = free_bytes(device)
    if not known or free is None or (needed := expected_bytes(known, length)) <= free:
        return ""
    return f"out of memory: not tried, for it may need {readable(needed)}, and {readable(free)} are free"


def is_out_of_memory(error: BaseException) -> bool:
    """Whether it is about memory, of a GPU or of a CPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _OF_A_CPU)


def readable(count: float) -> str:
    """A number of bytes in MiB or GiB."""
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.2f} MiB"
