"""What the settings under `trainer` say about the processes of a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_parallel(settings: Mapping[str, Any]) -> bool:
    """Whether the run has processes of its own to train in."""
    return str(settings.get("strategy", "auto")) != "auto"


def is_sharded(settings: Mapping[str, Any]) -> bool:
    """Whether no process holds all the weights."""
    return str(settings.get("strategy", "auto")) == "fsdp"


def processes_per_machine(settings: Mapping[str, Any]) -> int:
    """One for each device."""
    if not is_parallel(settings):
        return 1
    devices = settings["devices"]
    return len(devices) if isinstance(devices, list) else int(devices)


def num_processes(settings: Mapping[str, Any]) -> int:
    """Of all machines together."""
    return processes_per_machine(settings) * (int(settings["num_nodes"]) if is_parallel(settings) else 1)


def in_one_process(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings for what the first process does alone, on the same device as before."""
    devices = settings["devices"]
    first = devices[:1] if isinstance(devices, list) else 1
    return {**settings, "strategy": "auto", "num_nodes": 1, "devices": first}
