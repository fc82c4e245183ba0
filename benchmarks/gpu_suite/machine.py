"""What a measurement was made on."""

from __future__ import annotations

import importlib.metadata
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch


def machine() -> dict[str, Any]:
    """Versions, and of the GPU name, driver, memory and power limit; None for what cannot be found out."""
    found: dict[str, Any] = {
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _said_by("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": importlib.metadata.version("triton"),
        "numpy": importlib.metadata.version("numpy"),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        "gpu": None,
    }
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        wanted = "driver_version,power.limit,clocks.max.sm"
        said = _said_by("nvidia-smi", f"--query-gpu={wanted}", "--format=csv,noheader", "--id=0")
        values = [value.strip() for value in said.split(",")] if said else [None] * 3
        found |= {
            "gpu": properties.name,
            "capability": [properties.major, properties.minor],
            "multiprocessors": properties.multi_processor_count,
            "memory_gib": round(properties.total_memory / 2**30, 1),
            **dict(zip(("driver", "power_limit", "greatest_clock"), values, strict=True)),
        }
    return found


def is_lost(device: torch.device) -> bool:
    """Whether this process gets no more from its GPU, as after an access to foreign memory."""
    try:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
    except RuntimeError:
        return True
    return False


def _said_by(*command: str) -> str | None:
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return said or None
