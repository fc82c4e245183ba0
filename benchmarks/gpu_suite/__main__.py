"""Correctness, then the benchmark, within a time of its own; exit code 1 if something is wrong, 2 if it cannot run."""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SECONDS = 450.0
"""Of the 8 minutes, what is left for starting and ending."""
SHARE = 0.5
"""Of the time, what correctness may take before the benchmark begins."""
ENDING = 5.0
"""Seconds for writing it all down."""


def main(arguments: list[str] | None = None) -> int:
    """The exit code."""
    begun = time.monotonic()
    options = _options(arguments)
    if absent := [name for name in ("torch", "triton", "numpy") if importlib.util.find_spec(name) is None]:
        return _refused(f"{' and '.join(absent)} cannot be imported: the suite needs torch, triton and numpy")
    import torch

    if not options.interpret and not torch.cuda.is_available():
        return _refused("torch finds no GPU on this machine (--interpret tries a few cases without one)")
    from gpu_suite import machine, points, report, rows

    def left() -> float:
        return options.seconds - ENDING - (time.monotonic() - begun)

    from attnframe.backends.triton.tilings import table

    facts = machine.machine()
    skipped: list[dict[str, str]] = []
    if options.interpret:
        chosen, device = points.interpreted_points(), "cpu"
        skipped.append({"what": "the benchmark", "why": "without a GPU there is nothing to measure"})
    else:
        chosen, device = points.points(points.architectures(tuple(facts["capability"]), table()), table()), "cuda"
    answered, waiting = _ask(
        [dataclasses.asdict(point) for point in chosen],
        ["gpu_suite.checking", device],
        processes=1 if options.interpret else max(1, min(12, (os.cpu_count() or 1) - 2)),
        seconds=left() * (1.0 if options.interpret else SHARE),
        environment={"TRITON_INTERPRET": "1"} if options.interpret else {},
        every=1 if options.interpret else 100,
        describe=lambda point, answer: f"{point['case']}, {point['dtype']}, {point['subject']}: {_outcome(answer)}",
    )
    skipped += _for_time(waiting, "points", lambda point: f"{point['subject']} {point['dtype']}")
    measured: list[tuple[Any, Any]] = []
    if not options.interpret:
        measured, waiting = _ask(
            [dataclasses.asdict(row) for row in rows.rows()],
            ["gpu_suite.benchmarking"],
            processes=1,
            seconds=left(),
            environment={},
            every=1,
            describe=lambda row, answer: f"{rows.Row(**row)}: {_outcome(answer)}",
        )
        skipped += _for_time(waiting, "rows", lambda row: str(rows.Row(**row)))
    found = report.document(facts, answered, measured, skipped, time.monotonic() - begun)
    options.out.mkdir(parents=True, exist_ok=True)
    text = report.summary(found)
    (options.out / "gpu_suite.json").write_text(json.dumps(found, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    (options.out / "gpu_suite.txt").write_text(text + "\n", encoding="utf-8")
    print(f"\n{text}\n\n{options.out / 'gpu_suite.json'}")
    return 1 if found["wrong"] else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("benchmarks/gpu_suite.sh", description="The kernels on this machine's GPU.")
    here = Path(__file__).parents[1] / "results" / "local"
    parser.add_argument("--out", type=Path, default=here, help="folder for gpu_suite.json (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="the time it has (default: %(default)g)")
    parser.add_argument("--interpret", action="store_true", help="a few cases in Triton's interpreter, without a GPU")
    return parser.parse_args(arguments)


def _refused(why: str) -> int:
    print(f"gpu_suite: {why}", file=sys.stderr)
    return 2


def _ask(
    questions: list[dict[str, Any]],
    module: list[str],
    *,
    processes: int,
    seconds: float,
    environment: dict[str, str],
    every: int,
    describe: Callable[[dict[str, Any], dict[str, Any]], str],
) -> tuple[list[tuple[Any, Any]], list[Any]]:
    """Answers and what is left, with a line said after so many answers and after each that is not well."""
    from gpu_suite.processes import ask

    begun, count = time.monotonic(), 0

    def told(question: dict[str, Any], answer: dict[str, Any]) -> None:
        nonlocal count
        count += 1
        if count % every == 0 or answer.get("verdict") == "wrong" or "died" in answer:
            passed = time.monotonic() - begun
            print(
                f"[{count}/{len(questions)}, {passed:.0f} of {seconds:.0f} s] {describe(question, answer)}", flush=True
            )

    return ask(
        questions,
        [sys.executable, "-m", *module],
        processes=processes,
        seconds=seconds,
        # So that torch can be asked for equal bits; and processes share the cores.
        environment={"CUBLAS_WORKSPACE_CONFIG": ":4096:8", "OMP_NUM_THREADS": "1", **environment},
        told=told,
    )


def _outcome(answer: dict[str, Any]) -> str:
    if "died" in answer:
        return str(answer["died"])
    if "verdict" in answer:
        return "; ".join([answer["verdict"], *answer["complaints"]])
    return ", ".join(f"{name} {of['tflops']:.0f}" for name, of in answer["contenders"].items()) or "nothing ran"


def _for_time(waiting: list[Any], what: str, describe: Callable[[Any], str]) -> list[dict[str, str]]:
    if not waiting:
        return []
    kinds = dict.fromkeys(describe(question) for question in waiting)
    return [{"what": f"{len(waiting)} {what} ({', '.join(kinds)})", "why": "the time was up"}]


if __name__ == "__main__":
    sys.exit(main())
