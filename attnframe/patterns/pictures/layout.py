"""Where panels, cells and labels lie in a picture of patterns."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from attnframe.patterns.pictures.lettering import shorten, text_width

Box = tuple[int, int, int, int]

MAX_WIDTH: Final = 1800
"""Pixels: cells shrink until the picture is this narrow."""
MAX_HEIGHT: Final = 3900
MAX_PANELS_A_SIDE: Final = 200
"""Most layers and most heads in one picture."""

MARGIN: Final = 24
LABEL_GAP: Final = 5
_HEADER: Final = 66
_MIN_WIDTH: Final = 520
_LARGEST_CELL: Final = 22
_SMALLEST_LABELLED_CELL: Final = 8
_LARGEST_FONT: Final = 13
_CAPTION_HEIGHT: Final = 24


@dataclass(frozen=True, slots=True)
class PatternLayout:
    """Where everything lies in a picture, in pixels. Boxes are (left, top, right, bottom), right and bottom outside.

    `cell` is the side of a cell: whole pixels, or less than one where a pixel shows the mean of several cells. Labels
    are there when `font_size` is above 0.
    """

    layers: int
    heads: int
    queries: int
    keys: int
    cell: float
    font_size: int
    query_label_width: int
    key_label_height: int
    caption_height: int
    gap: int

    @property
    def panel_size(self) -> tuple[int, int]:
        """Width and height of the cells of one panel, without labels."""
        return max(1, math.floor(self.keys * self.cell)), max(1, math.floor(self.queries * self.cell))

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the picture."""
        width, height = self._step
        return (
            max(_MIN_WIDTH, 2 * MARGIN + self.heads * width - self.gap),
            2 * MARGIN + _HEADER + self.layers * height - self.gap,
        )

    @property
    def _step(self) -> tuple[int, int]:
        width, height = self.panel_size
        above = self.caption_height + self.key_label_height
        return self.query_label_width + width + self.gap, above + height + self.gap

    def panel_box(self, layer: int, head: int) -> Box:
        """The cells of one panel; layer and head count from 0."""
        step_x, step_y = self._step
        left = MARGIN + head * step_x + self.query_label_width
        top = MARGIN + _HEADER + layer * step_y + self.caption_height + self.key_label_height
        width, height = self.panel_size
        return left, top, left + width, top + height

    def cell_box(self, layer: int, head: int, query: int, key: int) -> Box:
        """One cell. Where cells have a grid between them, the last row and column of its pixels are grid."""
        left, top, _, _ = self.panel_box(layer, head)
        return (
            left + math.floor(key * self.cell),
            top + math.floor(query * self.cell),
            left + math.ceil((key + 1) * self.cell),
            top + math.ceil((query + 1) * self.cell),
        )

    def cell_centre(self, layer: int, head: int, query: int, key: int) -> tuple[int, int]:
        """A pixel (x, y) inside the cell that always has the colour of its weight, where `cell` is 1 or more."""
        left, top, right, bottom = self.cell_box(layer, head, query, key)
        return (left + right - 1) // 2, (top + bottom - 1) // 2


def pattern_layout(layers: int, heads: int, *, query_labels: Sequence[str], key_labels: Sequence[str]) -> PatternLayout:
    """The layout that `draw_patterns` uses for so many panels with these labels: the largest cells that fit.

    Labels are dropped where cells would be under 8 pixels. Raises ValueError for no or too many layers or heads, and
    for no labels.
    """
    if not (0 < layers <= MAX_PANELS_A_SIDE and 0 < heads <= MAX_PANELS_A_SIDE and query_labels and key_labels):
        raise ValueError(
            f"cannot draw {layers} layers x {heads} heads of {len(query_labels)} queries x {len(key_labels)} keys: "
            f"each must be at least 1, layers and heads at most {MAX_PANELS_A_SIDE}"
        )
    queries, keys = len(query_labels), len(key_labels)
    # Widths grow with the font, so one measurement does for every size.
    query_unit, key_unit = (
        max(text_width(shorten(label, _LARGEST_FONT), _LARGEST_FONT) for label in labels) / _LARGEST_FONT
        for labels in (query_labels, key_labels)
    )

    def labelled(cell: int) -> PatternLayout:
        font = min(_LARGEST_FONT, cell)
        width, height = (math.ceil(unit * font) + 2 + LABEL_GAP for unit in (query_unit, key_unit))
        return PatternLayout(layers, heads, queries, keys, cell, font, width, height, _CAPTION_HEIGHT, 26)

    captions = _CAPTION_HEIGHT if layers * _CAPTION_HEIGHT <= MAX_HEIGHT // 4 else 0

    def bare(cell: float, gap: int) -> PatternLayout:
        return PatternLayout(layers, heads, queries, keys, cell, 0, 0, 0, captions, gap)

    for cell in range(_LARGEST_CELL, _SMALLEST_LABELLED_CELL - 1, -1):
        if _fits(layout := labelled(cell)):
            return layout
    for gap in (14, 4):
        for cell in range(_LARGEST_CELL, 0, -1):
            if _fits(layout := bare(cell, gap)):
                return layout
    return bare(
        min(
            (MAX_WIDTH - 2 * MARGIN - heads * 4) / (heads * keys),
            (MAX_HEIGHT - 2 * MARGIN - _HEADER - layers * (4 + captions)) / (layers * queries),
        ),
        4,
    )


def _fits(layout: PatternLayout) -> bool:
    width, height = layout.size
    return width <= MAX_WIDTH and height <= MAX_HEIGHT
