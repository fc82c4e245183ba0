"""A process that measures rows on the GPU: `python -m gpu_suite.benchmarking`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
from kernel_errors import GRADIENT, OUTPUT
from torch import Tensor

from gpu_suite import contenders, l1_pass, timing
from gpu_suite.machine import is_lost
from gpu_suite.processes import Answer, Question, serve
from gpu_suite.rows import Row, tflops

Call = Callable[[], tuple[Any, ...]]
Result = tuple[Any, ...]

OURS = (contenders.OURS, contenders.STATISTICS, l1_pass.PASS, l1_pass.ROWS)
"""Whose failure is an error of ours, and not a contender less."""


def measure(question: Question, device: torch.device, instruments: Instruments | None = None) -> Answer:
    """Every contender's time, TFLOP/s, peak memory and kernels, how far our results are from a peer's, and who could
    not run, and why."""
    row = Row(**question)
    instruments = instruments or Instruments()
    tensors = contenders.inputs(row, device)
    declined: dict[str, str] = {}
    wrong: list[str] = []
    if row.direction == "reductions":
        if why := l1_pass.missing():
            return {"contenders": {}, "declined": {l1_pass.PASS: why}, "complaints": []}
        makers = {
            name: functools.partial(lambda call: call, call) for name, call in l1_pass.calls(row, *tensors).items()
        }
        pairs = {l1_pass.PASS: l1_pass.EAGER}
    else:
        makers = {name: functools.partial(contenders.prepared, name, row, *tensors) for name in contenders.names(row)}
        peer = "flash" if "flash" in makers else contenders.FLEX
        pairs = dict.fromkeys((contenders.OURS, contenders.STATISTICS), peer)
    calls: dict[str, Call] = {}
    results: dict[str, Result] = {}
    for name, make in makers.items():
        try:
            calls[name] = make()
            results[name] = calls[name]()
            instruments.wait()
        except Exception as error:  # whatever keeps a contender out is said in its place
            calls.pop(name, None)
            declined[name] = f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"
            if name in OURS:
                wrong.append(f"{row}: {name} failed: {declined[name]}")
            if is_lost(device):
                return {"contenders": {}, "declined": declined, "complaints": wrong, "last": True}
    apart = differences(results, pairs)
    results.clear()
    limit = 2 * (GRADIENT if row.direction == "backward" else OUTPUT)["bfloat16"]
    rounds = timing.interleaved(calls, instruments.timed)
    found = {}
    for name, times in rounds.items():
        found[name] = {
            "ms": timing.spread(times),
            "tflops": round(tflops(row, timing.spread(times)["median"]), 2),
            "peak_mib": round(instruments.peak_mib(calls[name]), 2),
            "kernels": instruments.kernels(calls[name]),
            **({"difference": apart[name], "from": pairs[name]} if name in apart else {}),
        }
    wrong += [
        f"{row}: {name} is {far:.3g} from {pairs[name]}; the limit is {limit:.3g}"
        for name, far in apart.items()
        if not far <= limit
    ]
    return {"contenders": found, "declined": declined, "complaints": wrong}


class Instruments:
    """What needs a GPU to be read."""

    timed = staticmethod(timing.on_gpu)
    peak_mib = staticmethod(timing.peak_mib)
    kernels = staticmethod(timing.kernels)
    wait = staticmethod(torch.cuda.synchronize)


def differences(results: Mapping[str, Result], pairs: Mapping[str, str]) -> dict[str, float]:
    """{name: the greatest relative Frobenius distance of its tensors from those of its pair}. Two of bfloat16 may
    each be off by the tolerance."""
    found = {}
    for name, pair in pairs.items():
        if name in results and pair in results:
            # Statistics come after the output, and the peers have none.
            together = zip(results[name], results[pair], strict=False)
            found[name] = max(_relative(one, other) for one, other in together)
    return found


def _relative(one: Tensor, other: Tensor) -> float:
    difference, norm = (one.float() - other.float()).norm(), other.float().norm()
    return float(difference / norm) if norm > 0 else float(difference)


if __name__ == "__main__":
    serve(functools.partial(measure, device=torch.device("cuda")))
