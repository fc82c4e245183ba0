"""What is measured, in which order, and how many floating-point operations it is."""

from __future__ import annotations

import dataclasses
from typing import Literal

TOKENS = 16384
"""In all: batch x length."""
WIDTH = 2048
"""heads x head_dim."""

Direction = Literal["forward", "backward", "reductions"]


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the benchmark, measured for all contenders side by side. `flex` is whether FlexAttention, which
    compiles for each row anew, is among them."""

    direction: Direction
    causal: bool
    head_dim: int
    length: int
    flex: bool = False

    @property
    def batch(self) -> int:
        return TOKENS // self.length

    @property
    def heads(self) -> int:
        return WIDTH // self.head_dim

    @property
    def flops(self) -> float:
        """Of the two matrix products of the forward; half of them under a causal mask. The backward has 2.5 times as
        many, the reductions one product."""
        both = 4.0 * self.batch * self.heads * self.length * self.length * self.head_dim
        share = {"forward": 1.0, "backward": 2.5, "reductions": 0.5}[self.direction]
        return both * share * (0.5 if self.causal else 1.0)

    def __str__(self) -> str:
        mask = "causal" if self.causal else "full"
        return f"{self.direction} {mask} d={self.head_dim} L={self.length}"


def tflops(row: Row, milliseconds: float) -> float:
    """Tera floating-point operations a second."""
    return row.flops / milliseconds / 1e9


def rows() -> list[Row]:
    """Those that a target is about first, of each kind one length before another."""
    kinds: list[tuple[Direction, bool, int]] = [
        ("forward", False, 128),
        ("forward", True, 128),
        ("forward", False, 64),
        ("backward", False, 128),
        ("backward", False, 64),
    ]
    besides: list[tuple[Direction, bool, int]] = [("backward", True, 128), ("forward", True, 64)]
    reductions = [Row("reductions", False, 128, 4096), Row("reductions", False, 128, 16384)]
    found = [Row(*kind, 4096, flex=True) for kind in kinds] + reductions
    found += [Row(*kind, length, flex=length == 16384) for length in (16384, 8192, 2048) for kind in kinds]
    found += [Row(*kind, length) for length in (1024, 512) for kind in kinds]
    return found + [Row(*kind, length) for length in (4096, 16384, 1024) for kind in besides]
