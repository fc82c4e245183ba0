"""The results as one JSON document, and as a page of text."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from gpu_suite.rows import Row
from gpu_suite.targets import targets

VERSION = 1
"""Of the document's form."""


def document(
    machine: Mapping[str, Any],
    points: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
    rows: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]],
    skipped: Sequence[Mapping[str, str]],
    seconds: float,
) -> dict[str, Any]:
    """Everything: each point's errors and verdict, each row's figures, the targets, what was skipped and why.

    `points` and `rows` are questions with their answers. A point whose process died is wrong; a row is skipped.
    """
    tried = []
    for point, answer in points:
        if "died" in answer:
            answer = {"errors": {}, "verdict": "wrong", "complaints": [answer["died"]], "seconds": None}
        tried.append({**point, **answer})
    measured = [(Row(**row), answer) for row, answer in rows if "died" not in answer]
    lost = [{"what": str(Row(**row)), "why": answer["died"]} for row, answer in rows if "died" in answer]
    for row, answer in measured:
        lost += [{"what": f"{name} in {row}", "why": why} for name, why in answer["declined"].items()]
    wrong = [f"{p['case']}, {p['dtype']}, {p['subject']}: {'; '.join(p['complaints'])}" for p in tried if _is_wrong(p)]
    wrong += [complaint for _, answer in measured for complaint in answer["complaints"]]
    found = {
        "version": VERSION,
        "machine": dict(machine),
        "seconds": round(seconds, 1),
        "verdicts": dict(Counter(point["verdict"] for point in tried)),
        "wrong": wrong,
        "targets": [target.as_dict() for target in targets([(row, a["contenders"]) for row, a in measured])],
        "benchmark": [
            {"row": str(row), **question, "batch": row.batch, "heads": row.heads, "flops": row.flops, **answer}
            for (question, answer), row in zip(
                [pair for pair in rows if "died" not in pair[1]], [row for row, _ in measured], strict=True
            )
        ],
        "points": tried,
        "skipped": [*map(dict, skipped), *lost],
    }
    return _in_json(found)


def summary(found: Mapping[str, Any]) -> str:
    """The document for reading."""
    machine = found["machine"]
    on = machine["gpu"] or "no GPU: Triton's interpreter"
    versions = ", ".join(f"{of} {machine[of]}" for of in ("driver", "torch", "triton", "cuda") if machine.get(of))
    lines = [f"{on} ({versions}), {found['seconds']:.0f} s", ""]
    counts = found["verdicts"]
    lines.append(
        f"Correctness: {sum(counts.values())} points, {counts.get('right', 0)} right, {counts.get('wrong', 0)} wrong"
    )
    lines += [f"  WRONG {line}" for line in found["wrong"]]
    if found["benchmark"]:
        lines += ["", "TFLOP/s, bfloat16, 16k tokens, heads x d = 2048; median of the rounds, and least to greatest"]
        lines += [line for row in found["benchmark"] for line in _figures(row)]
        lines += ["", "Kernels that ran, the longest of each"]
        lines += [f"  {name}: {', '.join(kernels)}" for name, kernels in _kernels(found["benchmark"]).items()]
    lines += ["", f"{'Target':44} {'floor':>8} {'goal':>8} {'stretch':>8} {'measured':>9}  verdict"]
    for target in found["targets"]:
        levels = " ".join(f"{_number(target[level]):>8}" for level in ("floor", "goal", "stretch"))
        name = f"{target['name']} ({target['unit']})"
        lines.append(f"{name:44} {levels} {_number(target['value']):>9}  {target['verdict']}")
    if found["skipped"]:
        lines += ["", "Skipped", *(f"  {skipped['what']}: {skipped['why']}" for skipped in found["skipped"])]
    return "\n".join(lines)


def _in_json(value: Any) -> Any:
    """JSON has no NaN and no infinity: as words."""
    if isinstance(value, Mapping):
        return {key: _in_json(of) for key, of in value.items()}
    if isinstance(value, list | tuple):
        return [_in_json(of) for of in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _is_wrong(point: Mapping[str, Any]) -> bool:
    return bool(point["verdict"] == "wrong")


def _figures(row: Mapping[str, Any]) -> list[str]:
    lines = [f"  {row['row']}"] if row["contenders"] else []
    for name, of in row["contenders"].items():
        times = of["ms"]
        fast, slow = (row["flops"] / times[which] / 1e9 for which in ("least", "greatest"))
        lines.append(f"    {name:24} {of['tflops']:7.1f}  {slow:6.1f} to {fast:6.1f}  {times['median']:9.3f} ms")
    return lines


def _kernels(benchmark: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in benchmark:
        for name, of in row["contenders"].items():
            longest = of["kernels"][0]["name"] if of["kernels"] else "the profiler saw none"
            names = found.setdefault(f"{name}, {row['direction']}", [])
            if longest not in names:
                names.append(longest)
    return found


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
