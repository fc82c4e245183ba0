"""Watching attention without changing it: what an observer of a module is told."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from attnframe.attention.mask import Mask
from attnframe.backends import MaskMod, Normaliser, Request, RowStatistics, ScoreMod

if TYPE_CHECKING:
    from attnframe.attention.base import Attention


class PatternKind(enum.StrEnum):
    """What the numbers of a pattern are."""

    PROBABILITY = "probability"
    """Rows sum to 1, or to 0 where the query may attend to nothing."""
    SIGNED = "signed"
    """Weights may be negative."""
    UNNORMALISED = "unnormalised"
    """Non-negative, but rows have a mass of their own."""
    IMPLICIT = "implicit"
    """The module never forms such weights; these reproduce its output."""


@dataclass(frozen=True)
class AttendCall:
    """One call of `Attention.attend` with its result, as observers see it. Shapes as in `Backend.attend`."""

    request: Request
    q: Tensor
    k: Tensor
    v: Tensor
    mask: Mask
    scale: float
    score_mod: ScoreMod | None
    mask_mod: MaskMod | None
    normaliser: Normaliser | None
    output: Tensor
    statistics: RowStatistics | None = None
    """Of the softmax's rows, where an observer `wants_statistics` and no normaliser takes the softmax's place."""


Intervention = Callable[[AttendCall], Tensor]
"""What `attend` is to return in the place of its output, [batch, heads, query, value_dim] both."""


class Observer:
    """Sees a module's calls. A subclass overrides what it wants to know."""

    wants_statistics: bool = False
    """Whether `AttendCall.statistics` are computed for it."""

    def called(self, module: Attention, query: Tensor, key: Tensor, value: Tensor) -> None:
        """Before each `forward`, with the embeddings that it is given."""

    def attended(self, module: Attention, call: AttendCall) -> None:
        """After each `attend`."""

    def reported(
        self, module: Attention, combine: Callable[..., Tensor], kind: PatternKind, mass: float | Tensor | None
    ) -> None:
        """When the variant reports its own pattern; the arguments are those of `Attention.report_pattern`."""

    def returned(self, module: Attention, output: Tensor) -> None:
        """After each `forward`, with the ΔE that it returns."""
