"""What the kernels are to reach, and whether they do."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from gpu_suite.contenders import FLEX, OURS, STATISTICS
from gpu_suite.l1_pass import EAGER, PASS
from gpu_suite.rows import Row

Measured = Sequence[tuple[Row, Mapping[str, Any]]]
"""Rows with their contenders, as `benchmarking.measure` gives them."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A figure that is to be at least, or with `less` at most, as great as each level that it has. The figure is the
    worst over all rows that it is about."""

    name: str
    unit: str
    floor: float
    goal: float | None
    stretch: float | None
    values: tuple[tuple[str, float], ...]
    """(row, figure)."""
    less: bool = False

    @property
    def value(self) -> float | None:
        figures = [figure for _, figure in self.values]
        return None if not figures else max(figures) if self.less else min(figures)

    @property
    def verdict(self) -> str:
        """The highest level that is met with all below it."""
        if self.value is None:
            return "not measured"
        met = "missed"
        for level in ("floor", "goal", "stretch"):
            bound = getattr(self, level)
            if bound is None or (self.value > bound if self.less else self.value < bound):
                break
            met = f"{level} met"
        return met

    def as_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "value": self.value, "verdict": self.verdict}


def targets(measured: Measured) -> list[Target]:
    """The table, filled in. d=128 counts from 4096 tokens on, d=64 from 2048 on."""
    long = {128: 4096, 64: 2048}

    def rates(direction: str, causal: bool, head_dim: int) -> tuple[tuple[str, float], ...]:
        return tuple(
            (str(row), found[OURS]["tflops"])
            for row, found in measured
            if (row.direction, row.causal, row.head_dim) == (direction, causal, head_dim)
            and row.length >= long[head_dim]
            and OURS in found
        )

    def on_top(direction: str) -> tuple[tuple[str, float], ...]:
        about = [(row, found) for row, found in measured if row.length >= long[row.head_dim]]
        pairs = _ratios(about, direction, STATISTICS, OURS)
        return tuple((row, 100 * (ratio - 1)) for row, ratio in pairs)

    beside_flex = (*_ratios(measured, "forward", FLEX, OURS), *_ratios(measured, "backward", FLEX, OURS))
    at_4096 = [(row, found) for row, found in measured if row.length == 4096]
    return [
        Target("forward full d=128, L >= 4k", "TFLOP/s", 430, 500, 580, rates("forward", False, 128)),
        Target("forward causal d=128, L >= 4k", "TFLOP/s", 380, 450, 530, rates("forward", True, 128)),
        Target("forward full d=64, L >= 2k", "TFLOP/s", 340, 390, 440, rates("forward", False, 64)),
        Target("backward full d=128, L >= 4k", "TFLOP/s", 280, 350, 430, rates("backward", False, 128)),
        Target("backward full d=64, L >= 2k", "TFLOP/s", 240, 300, 350, rates("backward", False, 64)),
        Target("against Flex", "x", 1.0, 1.15, None, beside_flex),
        Target("statistics on top of the forward", "%", 8, 4, None, on_top("forward"), less=True),
        Target("statistics on top of the backward", "%", 8, 4, None, on_top("backward"), less=True),
        Target(
            "L1 pass, share of the forward", "x", 1.0, 0.7, None, tuple(_ratios(measured, "reductions", PASS, OURS)),
            less=True,
        ),
        Target(
            "L1 pass against eager at 4k, time", "x", 4, None, None, tuple(_ratios(at_4096, "reductions", EAGER, PASS))
        ),
        Target(
            "L1 pass against eager at 4k, memory", "x", 100, None, None,
            tuple(
                (str(row), found[EAGER]["peak_mib"] / max(found[PASS]["peak_mib"], 2**-10))
                for row, found in at_4096
                if row.direction == "reductions" and {EAGER, PASS} <= found.keys()
            ),
        ),
    ]  # fmt: skip


def _ratios(measured: Measured, direction: str, name: str, of: str) -> Iterator[tuple[str, float]]:
    """How many times as long `name` takes as `of`: the median over the rounds, whose times belong together."""
    for row, found in measured:
        if row.direction == direction and {name, of} <= found.keys():
            both = zip(found[name]["ms"]["rounds"], found[of]["ms"]["rounds"], strict=True)
            yield str(row), statistics.median(one / other for one, other in both)
