"""From the numbers in a figure to its colours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from matplotlib.colors import Colormap, ListedColormap, Normalize
from numpy.typing import NDArray

from attnframe.patterns.pictures.colours import ROUNDING, signed_ramp, weight_ramp

_SMALLEST_TOP: Final = 0.25
"""Weights that are all below it have a scale up to the largest of them: up to 1 they would all look white."""


@dataclass(frozen=True)
class FigureScale:
    """The colours of all panels, from `low` to `high`; beside the bar stand `name` and `ticks`."""

    low: float
    high: float
    name: str
    ticks: Sequence[tuple[float, str]] | None

    @classmethod
    def of(cls, values: Sequence[Sequence[NDArray[np.float32]]], name: str, largest: float | None) -> FigureScale:
        """The scale of `values` by row and panel, called `name`; weights unless `largest` is given."""
        if largest is not None:
            return cls(0, largest or 1, name, None)
        least = min(float(array.min()) for row in values for array in row)
        most = max(float(np.abs(array).max()) for row in values for array in row)
        is_signed = least < -min(ROUNDING, 0.01 * most)
        if 0 < most < _SMALLEST_TOP:
            low = -most if is_signed else 0
            name = f"{name}, up to the largest {'size' if is_signed else 'one'}"
            return cls(low, most, name, [(place, f"{place:.2g}") for place in (low, (low + most) / 2, most)])
        if is_signed:
            most = max(1.0, most)
            return cls(-most, most, name, [(place, f"{place:.3g}") for place in (-most, 0, most)])
        return cls(0, 1, name, [(0, "0"), (0.5, "0.5"), (1, "1 or more" if most > 1 + ROUNDING else "1")])

    @property
    def norm(self) -> Normalize:
        """From a number to its place in `colours`."""
        return Normalize(self.low, self.high)

    @property
    def colours(self) -> Colormap:
        """Those of `patterns.pictures.colours`."""
        ramp = signed_ramp() if self.low < 0 else weight_ramp()
        return ListedColormap(ramp / 255)
