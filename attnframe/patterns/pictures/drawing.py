"""Attention patterns as a picture: one heat map for each layer (rows) and head (columns), drawn with Pillow alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from attnframe.patterns.pictures.colours import ROUNDING, Colour, signed_ramp, weight_ramp
from attnframe.patterns.pictures.layout import LABEL_GAP, MARGIN, Box, PatternLayout, pattern_layout
from attnframe.patterns.pictures.lettering import shorten, text_mask, text_width

if TYPE_CHECKING:
    from torch import Tensor

    from attnframe.data.schema import Alignment

_SMALLEST_GRIDDED_CELL: Final = 8
_SMALLEST_OUTLINED_CELL: Final = 4
_CAPTION_SIZE: Final = 13

_INK: Final[Colour] = (30, 34, 42)
_MUTED: Final[Colour] = (96, 104, 116)
_FRAME: Final[Colour] = (205, 211, 219)
_PAPER: Final[Colour] = (255, 255, 255)
_GOLD: Final[Colour] = (230, 92, 0)


def draw_patterns(
    weights: Tensor,
    *,
    query_labels: Sequence[str],
    key_labels: Sequence[str],
    layers: Sequence[int] | None = None,
    title: str,
    subtitle: str = "",
    alignment: Alignment | None = None,
) -> Image.Image:
    """A picture (RGB) of `weights` [layers, heads, query, key]: a panel a layer and head, queries down, keys across.

    `layers` are the numbers of the layers, from 0, where they are not all of the first; captions count from 1.
    Weights are drawn on a fixed scale from 0 to 1, so that pictures compare; above it they take the colour of its end
    and the colour bar says so. Where a weight is below 0 the scale goes from -m to m, m the largest |weight| and at
    least 1: blue above 0, orange below. Links of `alignment` are outlined, thick where sure, in cells of 4 pixels or
    more: (source, target) is the cell in column `source` and row `target`, so the caller maps words to keys and queries
    first. `pattern_layout` tells which pixel is what. Any text will do for a label; long ones end in an ellipsis.

    Raises ValueError for more panels than `MAX_PANELS_A_SIDE` a side or none, for weights that are
    not finite, labels or layers that are not one a row or column, and links outside the panels.
    """
    if weights.ndim != 4 or weights.shape[2:] != (len(query_labels), len(key_labels)):
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} are not [layers, heads, {len(query_labels)} query labels, "
            f"{len(key_labels)} key labels]"
        )
    values: NDArray[np.float32] = weights.detach().float().cpu().numpy()
    if not np.isfinite(values).all():
        raise ValueError("attention weights hold NaN or infinity")
    num_layers, heads, queries, keys = values.shape
    numbers = range(num_layers) if layers is None else layers
    if len(numbers) != num_layers:
        raise ValueError(f"layers {list(numbers)} are not the numbers of {num_layers} layers")
    for source, target in alignment.possible if alignment else ():
        if not (0 <= source < keys and 0 <= target < queries):
            raise ValueError(f"link ({source}, {target}) lies outside {queries} queries x {keys} keys")

    layout = pattern_layout(num_layers, heads, query_labels=query_labels, key_labels=key_labels)
    image = Image.new("RGB", layout.size, _PAPER)
    outlined = alignment if alignment and layout.cell >= _SMALLEST_OUTLINED_CELL else None
    scale = _Scale.of(values)
    _draw_header(image, title, subtitle, outlined, scale)
    overlay = _panel_overlay(layout, outlined)
    labels = _label_strips(layout, query_labels, key_labels)
    draw = ImageDraw.Draw(image)
    for row, number in enumerate(numbers):
        for head in range(heads):
            left, top, right, bottom = layout.panel_box(row, head)
            image.paste(_heat_map(values[row, head], layout, scale), (left, top))
            image.paste(overlay, (left, top), overlay)
            draw.rectangle((left - 1, top - 1, right, bottom), outline=_FRAME)
            if labels:
                down, across = labels
                image.paste(_MUTED, (left - down.width, top), down)
                image.paste(_MUTED, (left, top - across.height), across)
            if layout.caption_height:
                room = right - left + layout.gap - 6
                captions = (f"layer {number + 1}, head {head + 1}", f"L{number + 1} H{head + 1}", "")
                caption = next(text for text in captions if text_width(text, _CAPTION_SIZE) <= room)
                _write(image, caption, (left, top - layout.key_label_height - 22), _CAPTION_SIZE, _INK)
    return image


@dataclass(frozen=True)
class _Scale:
    """The colours of all panels of a picture, and what stands at the ends of its bar."""

    ramp: NDArray[np.uint8]
    low: float
    high: float
    labels: tuple[str, str]

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> _Scale:
        low, high = float(values.min()), float(values.max())
        if low >= -ROUNDING:
            return cls(weight_ramp(), 0.0, 1.0, ("0", "1 or more" if high > 1 + ROUNDING else "1"))
        most = max(1.0, -low, high)
        return cls(signed_ramp(), -most, most, (f"below 0: orange    -{most:.3g}", f"{most:.3g}"))

    def colours(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        level = (values.clip(self.low, self.high) / self.high * 255).round().astype(int)
        return self.ramp[len(self.ramp) - 256 + level]


def _heat_map(values: NDArray[np.float32], layout: PatternLayout, scale: _Scale) -> Image.Image:
    size = layout.panel_size
    if layout.cell < 1:
        # Weights are averaged, not colours: a mean of colours is the colour of no weight.
        values = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BOX))
    return Image.fromarray(scale.colours(values)).resize(size, Image.Resampling.NEAREST)


def _panel_overlay(layout: PatternLayout, alignment: Alignment | None) -> Image.Image:
    """What lies over the colours of every panel: the grid between cells, and the outlines of gold links."""
    overlay = Image.new("RGBA", layout.panel_size, (0, 0, 0, 0))
    draw = ImageDraw.Draw(overlay)
    width, height = layout.panel_size
    cell = int(layout.cell)
    if cell >= _SMALLEST_GRIDDED_CELL:
        for x in range(cell - 1, width - 1, cell):
            draw.line((x, 0, x, height), fill=(*_PAPER, 255))
        for y in range(cell - 1, height - 1, cell):
            draw.line((0, y, width, y), fill=(*_PAPER, 255))
    if alignment:
        for source, target in sorted(alignment.possible):
            box = (source * cell, target * cell, (source + 1) * cell - 2, (target + 1) * cell - 2)
            _outline(draw, box, sure=(source, target) in alignment.sure, large=cell >= 12)
    return overlay


def _outline(draw: ImageDraw.ImageDraw, box: Box, *, sure: bool, large: bool) -> None:
    draw.rectangle(box, outline=(*_GOLD, 255), width=2 if sure and large else 1)


def _label_strips(
    layout: PatternLayout, query_labels: Sequence[str], key_labels: Sequence[str]
) -> tuple[Image.Image, Image.Image] | None:
    """Masks of the query labels (down the left) and the key labels (along the top) of one panel."""
    if not layout.font_size:
        return None
    width, height = layout.panel_size
    down = Image.new("L", (layout.query_label_width, height))
    across = Image.new("L", (width, layout.key_label_height))
    cell, size = int(layout.cell), layout.font_size
    # Small letters sit below the middle of a mask, which has room for marks above.
    lift = round(0.1 * size)
    for row, label in enumerate(query_labels):
        mask = text_mask(shorten(label, size), size)
        place = down.width - LABEL_GAP - mask.width, row * cell + (cell - mask.height) // 2 - lift
        down.paste(255, (max(0, place[0]), place[1]), mask)
    for column, label in enumerate(key_labels):
        mask = text_mask(shorten(label, size), size).transpose(Image.Transpose.ROTATE_90)
        place = column * cell + (cell - mask.width) // 2 - lift, across.height - LABEL_GAP - mask.height
        across.paste(255, (place[0], max(0, place[1])), mask)
    return down, across


def _draw_header(image: Image.Image, title: str, subtitle: str, alignment: Alignment | None, scale: _Scale) -> None:
    """Title and subtitle on the left, the colour bar and what outlines mean on the right."""
    draw = ImageDraw.Draw(image)
    low, high = scale.labels
    bar_width, bar_height, size = 120, 12, 12
    right = image.width - MARGIN
    bar = right - text_width(high, size) - 5 - bar_width
    ramp = Image.fromarray(scale.ramp[None]).resize((bar_width, bar_height), Image.Resampling.NEAREST)
    image.paste(ramp, (bar, MARGIN + 5))
    draw.rectangle((bar - 1, MARGIN + 4, bar + bar_width, MARGIN + 5 + bar_height), outline=_FRAME)
    _write(image, high, (bar + bar_width + 6, MARGIN + 3), size, _MUTED)
    start = bar - 6 - text_width(low, size)
    _write(image, low, (start, MARGIN + 3), size, _MUTED)

    x, y = right, MARGIN + 27
    if alignment:
        kinds = [("gold", True)] if alignment.possible == alignment.sure else [("possible", False), ("sure", True)]
        for text, sure in kinds:
            x -= text_width(text, size)
            _write(image, text, (x, y), size, _MUTED)
            x -= 18
            _outline(draw, (x, y + 2, x + 12, y + 14), sure=sure, large=True)
            x -= 12
    hint = "rows attend to columns"
    x -= text_width(hint, size)
    _write(image, hint, (x, y), size, _MUTED)

    _write(image, shorten(title, 19, start - MARGIN - 16), (MARGIN, MARGIN - 2), 19, _INK)
    _write(image, shorten(subtitle, 13, x - MARGIN - 16), (MARGIN, MARGIN + 26), 13, _MUTED)


def _write(image: Image.Image, text: str, place: tuple[int, int], size: int, colour: Colour) -> None:
    image.paste(colour, place, text_mask(text, size))
