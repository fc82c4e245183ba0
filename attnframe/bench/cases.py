"""A benchmark under way: its lines, and what has been measured of each at each length."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from attnframe.attention import Attention
from attnframe.bench.figures import Measured, Row, Spread
from attnframe.bench.lines import Line

FORWARD, BACKWARD = "forward", "backward"


@dataclass
class Track:
    """A line with its module, None where it cannot run at any length.

    `over` has for each pass that is not run any more the reason, `peaks` length and bytes of what was.
    """

    line: Line
    module: Attention | None = None
    backend: str = ""
    over: dict[str, str] = field(default_factory=dict)
    peaks: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: {FORWARD: [], BACKWARD: []})


@dataclass
class Pass:
    """One pass at one length; each sample, in seconds, is the mean of `repeats` calls."""

    flops: float | None
    peak_bytes: int
    kernels: tuple[str, ...]
    repeats: int = 1
    samples: list[float] = field(default_factory=list)

    def measured(self) -> Measured | None:
        """None before the first round."""
        if not self.samples:
            return None
        spread = Spread.of(self.samples)
        return Measured(spread, self.flops, self.peak_bytes, self.kernels, len(self.samples))


@dataclass
class Case:
    """A line at one length. `calls` times a pass, and keeps its tensors, until all rounds are over."""

    track: Track
    length: int
    calls: dict[str, Callable[[int], float]] = field(default_factory=dict)
    passes: dict[str, Pass] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)

    def row(self, device: str) -> Row | None:
        """What is known of it; None while that is nothing."""
        measured = {name: made.measured() for name, made in self.passes.items()}
        if not any(measured.values()) and not self.notes:
            return None
        # What keeps the forward pass from running keeps the other one too.
        name = FORWARD if FORWARD in self.notes else BACKWARD
        reason = self.notes.get(name, "")
        return Row(
            self.track.line,
            device,
            self.track.backend,
            self.length,
            self.track.line.batch_of(self.length),
            measured.get(FORWARD),
            measured.get(BACKWARD),
            f"{BACKWARD}: {reason}" if reason and name == BACKWARD else reason,
        )
