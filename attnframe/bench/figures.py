"""What a measurement comes to: medians, arithmetic per second, and the row of a table."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from attnframe.bench.lines import Line


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of samples, in their unit; of one sample all three are that."""

    median: float
    lower: float
    upper: float

    @classmethod
    def of(cls, samples: Sequence[float]) -> Spread:
        """Quartiles interpolate between samples (Hyndman and Fan 1996, type 7)."""
        if len(samples) == 1:
            return cls(samples[0], samples[0], samples[0])
        lower, median, upper = statistics.quantiles(samples, n=4, method="inclusive")
        return cls(median, lower, upper)


@dataclass(frozen=True)
class Measured:
    """One pass, forward or backward, of one batch.

    - `seconds`: of one call
    - `flops`: what it is credited with (`attnframe.bench.flops`); None where that cannot be counted
    - `peak_bytes`: the most memory that is in use at once beyond what was before; of a backward pass together with its
      forward pass; None where it is not known
    - `kernels`: names of what ran, the most telling first
    - `rounds`: how many samples there are
    """

    seconds: Spread
    flops: float | None
    peak_bytes: int | None
    kernels: tuple[str, ...]
    rounds: int

    @property
    def tflops(self) -> float | None:
        """Credited TFLOP in a second at the median."""
        return None if self.flops is None or not self.seconds.median else self.flops / self.seconds.median / 1e12


@dataclass(frozen=True)
class Row:
    """One line at one length; `length` and `batch` are None for a line that cannot run at any.

    `backend` is the one that ran, "own" for a variant that computes its attention itself. `note` says what is missing
    and why; empty where nothing is.
    """

    line: Line
    device: str
    backend: str
    length: int | None = None
    batch: int | None = None
    forward: Measured | None = None
    backward: Measured | None = None
    note: str = ""
