"""A process that tries points and says what is wrong with them: `python -m gpu_suite.checking DEVICE`."""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import reduction_errors
import torch
from kernel_cases import Case, key_keep_of, scale_of
from kernel_errors import complaints, measure
from torch import Tensor

from attnframe import Mask
from attnframe.backends import Sdpa
from gpu_suite.machine import is_lost
from gpu_suite.points import INTERPRETER, REDUCTIONS, SDPA, Point, case_of
from gpu_suite.processes import Answer, Question, serve

REPEATS = 3


def check(question: Question, device: torch.device) -> Answer:
    """What `measure` of `kernel_errors` or `reduction_errors` finds at this point, and what that is worth."""
    point = Point(**question)
    case = case_of(point.case)
    begun = time.monotonic()
    answer: Answer = {"errors": {}}
    try:
        if point.subject == SDPA:
            # It has no statistics, and sums gradients in any order.
            case = dataclasses.replace(case, statistics=False)
            measured = measure(case, point.dtype, device, attend=sdpa)
            # How near to eager they come is promised of our kernels.
            wrong = complaints(case, point.dtype, measured, beside_eager=False)
        elif point.subject.startswith(REDUCTIONS):
            with chosen(point.subject.removeprefix(REDUCTIONS)):
                measured = reduction_errors.measure(case, point.dtype, device, repeats=REPEATS)
            wrong = reduction_errors.complaints(case, point.dtype, measured)
        else:
            with chosen(point.subject):
                measured = measure(case, point.dtype, device, repeats=REPEATS)
            wrong = complaints(case, point.dtype, measured)
        answer["errors"] = measured["errors"]
    except Exception as error:  # whatever a launch may raise is what is wrong with it
        lines = str(error).strip().splitlines() or [""]
        wrong = [f"{type(error).__name__}: {lines[0]}"]
        answer["last"] = is_lost(device)
    return answer | {
        "verdict": "wrong" if wrong else "right",
        "complaints": wrong,
        "seconds": round(time.monotonic() - begun, 3),
    }


def sdpa(case: Case, q: Tensor, k: Tensor, v: Tensor) -> dict[str, Tensor]:
    """The output as the backend `sdpa` has it."""
    mask = Mask(key_keep_of(case, q.device), case.causal, case.window, case.query_offset)
    mask = mask.bind(case.batch, case.queries, case.keys, q.device)
    rest: dict[str, Any] = {"dropout": 0.0, "score_mod": None, "mask_mod": None, "normaliser": None}
    return {"output": Sdpa().attend(q, k, v, mask, scale=scale_of(case), **rest)}


@contextmanager
def chosen(subject: str) -> Iterator[None]:
    """Within it, kernels are launched with this tiling, whatever GPU and head width ask for."""
    if subject == INTERPRETER:
        yield
        return
    from attnframe.backends.triton import tilings

    architecture, width = subject.split("/")
    by_table = tilings.entry

    def entry(kernel: str, _: str, dtype: torch.dtype, needed: int, **calls: bool) -> dict[str, int]:
        return by_table(kernel, architecture, dtype, max(needed, int(width)), **calls)

    tilings.entry = entry
    try:
        yield
    finally:
        tilings.entry = by_table


if __name__ == "__main__":
    serve(functools.partial(check, device=torch.device(sys.argv[1])))
