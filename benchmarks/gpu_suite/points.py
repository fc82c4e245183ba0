"""Which cases are tried on which kernels, in which order."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from kernel_cases import CASES, LONG_CASES, Case

INTERPRETER = "interpreter"
SDPA = "sdpa"
REDUCTIONS = "reductions on "
# What most training uses comes first.
DTYPES = ("bfloat16", "float16", "float32")


@dataclasses.dataclass(frozen=True)
class Point:
    """A case in a dtype, on a `subject`: a tiling of the table as "architecture/width", "interpreter" or "sdpa"; after
    "reductions on " it is the kernels that sum the pattern up."""

    case: str
    dtype: str
    subject: str


def case_of(name: str) -> Case:
    """The case of this name, as it is in the table or longer."""
    return CASES[name] if name in CASES else LONG_CASES[name]


def architectures(capability: tuple[int, int], table: Mapping[str, Any]) -> list[str]:
    """Those of the table whose tilings this GPU can run, its own first. "any" is for what the table lacks, and fits
    every GPU since compute capability 8.0."""
    own = f"sm_{capability[0]}{capability[1]}"
    return [*([own] if own in table else []), *(["any"] if capability >= (8, 0) else [])]


def points(architectures: Sequence[str], table: Mapping[str, Any]) -> list[Point]:
    """Every case on every tiling wide enough for it, first on the one that it gets where nobody chooses; then sdpa,
    on the table as it is, and the reductions."""
    passes: list[list[Point]] = [[], [], []]
    for dtype in DTYPES:
        for name in (*CASES, *LONG_CASES):
            case = case_of(name)
            # It changes no scores.
            if name in CASES and not case.changes_scores:
                passes[1].append(Point(name, dtype, SDPA))
            for architecture in architectures:
                widths = sorted(int(width) for width in table[architecture][dtype])
                fitting = [width for width in widths if width >= max(case.head_dim, case.value_dim)]
                for width in fitting:
                    chosen = architecture == architectures[0] and width == fitting[0]
                    passes[0 if chosen else 2].append(Point(name, dtype, f"{architecture}/{width}"))
                    if not case.changes_scores:
                        subject = f"{REDUCTIONS}{architecture}/{width}"
                        passes[1 if chosen else 2].append(Point(name, dtype, subject))
    return [point for part in passes for point in _apart(part)]


def interpreted_points() -> list[Point]:
    """A few for Triton's interpreter, which takes a second for each."""
    return [Point("plain", dtype, INTERPRETER) for dtype in DTYPES] + [
        Point("holes", "float32", subject) for subject in (INTERPRETER, f"{REDUCTIONS}{INTERPRETER}")
    ]


def _apart(points: Sequence[Point]) -> list[Point]:
    """One for each compiled kernel first, so that processes do not wait beside each other for the same one."""
    seen: Counter[tuple[object, ...]] = Counter()
    turns = []
    for point in points:
        case = case_of(point.case)
        kernel = (
            *(point.dtype, point.subject, case.head_dim, case.value_dim, case.causal, case.window is None),
            *(case.key_keep is None, case.statistics, case.layout),
            *(case.softcap is None, case.slopes, case.key_bias is None),
        )
        turns.append(seen[kernel])
        seen[kernel] += 1
    return [point for _, point in sorted(zip(turns, points, strict=True), key=lambda pair: pair[0])]
