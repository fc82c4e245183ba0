"""Measures two tiny rows with instruments that need no GPU, and prints the answers as JSON. Run by test_gpu_suite.py in
a process of its own, where kernels run in the interpreter."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import torch
from gpu_suite import benchmarking, rows


class Instruments:
    """Every call takes a nanosecond."""

    def timed(self, call: Callable[[], Any], times: int) -> float:
        return 1e-6 * times

    def peak_mib(self, call: Callable[[], Any]) -> float:
        return 3.0

    def kernels(self, call: Callable[[], Any]) -> list[dict[str, Any]]:
        return [{"name": "a kernel", "ms": 1e-6}]

    def wait(self) -> None:
        pass


if __name__ == "__main__":
    rows.TOKENS, rows.WIDTH = 64, 32
    tiny = [rows.Row("forward", False, 16, 32), rows.Row("backward", True, 16, 32)]
    answers = [
        {"row": str(row), **benchmarking.measure(dataclasses.asdict(row), torch.device("cpu"), Instruments())}
        for row in tiny
    ]
    print(json.dumps(answers))
