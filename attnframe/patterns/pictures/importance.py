"""What a score changes by without each head, as a picture: layers down, heads across, drawn with Pillow alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from PIL import Image, ImageDraw

from attnframe.patterns.pictures.colours import Colour, signed_colour, weight_colour
from attnframe.patterns.pictures.lettering import shorten, text_mask, text_width

MAX_WIDTH: Final = 1800
"""Pixels: cells shrink until the picture is this narrow, or a pixel wide."""

_MARGIN: Final = 24
_HEADER: Final = 74
_GAP: Final = 34
_CAPTION: Final = 26
_HEAD_LABELS: Final = 20
_LAYER_LABELS: Final = 58
_ALL_GAP: Final = 8
_LARGEST_CELL: Final = (58, 30)
_SMALLEST_LETTERED_CELL: Final = 46
_MIN_WIDTH: Final = 560

_INK: Final[Colour] = (30, 34, 42)
_MUTED: Final[Colour] = (96, 104, 116)
_FRAME: Final[Colour] = (205, 211, 219)
_PAPER: Final[Colour] = (255, 255, 255)
# The luminance on which white letters and dark ones have the same contrast.
_DARK: Final = 0.21


@dataclass(frozen=True)
class SiteChanges:
    """What a score changes by without parts of one site; layers and heads count from 0, and any part may be missing.

    `heads` has it by (layer, head), `layers` by layer for all heads of the layer, `whole` for all of the site.
    """

    site: str
    heads: Mapping[tuple[int, int], float]
    layers: Mapping[int, float]
    whole: float | None = None


def draw_importance(panels: Mapping[str, Sequence[SiteChanges]], *, title: str, subtitle: str = "") -> Image.Image:
    """A picture (RGB): a column of heat maps for each entry of `panels` under its name, one map below another a site.

    One scale holds for all: colours go from 0 to the largest change of a single head, and what is beyond, as all heads
    of a layer together (the last column of a map) may be, takes the colour of its end. A fall is drawn in orange. A
    change that is not finite is said in words. Raises ValueError where there is nothing to draw.
    """
    sites = [changes for column in panels.values() for changes in column]
    if not any(changes.layers or changes.heads for changes in sites):
        raise ValueError("there are no changes to draw")
    top = _top_of(sites)
    heads = max((head + 1 for changes in sites for _, head in changes.heads), default=0)
    cell = _cell(len(panels), heads)
    width = _LAYER_LABELS + (heads + 1) * cell[0] + _ALL_GAP
    heights = [
        max(_map_height(column[row], cell[1]) for column in panels.values() if row < len(column))
        for row in range(max(map(len, panels.values())))
    ]
    size = (
        max(_MIN_WIDTH, 2 * _MARGIN + len(panels) * (width + _GAP) - _GAP),
        2 * _MARGIN + _HEADER + _CAPTION + sum(heights) + _GAP * (len(heights) - 1),
    )
    image = Image.new("RGB", size, _PAPER)
    _draw_header(image, title, subtitle, top)
    for number, (name, column) in enumerate(panels.items()):
        left, y = _MARGIN + number * (width + _GAP), _MARGIN + _HEADER
        _write(image, shorten(name, 16, width), (left, y), 16, _INK)
        y += _CAPTION
        for changes, height in zip(column, heights, strict=False):
            _draw_map(image, changes, (left, y), cell, heads, top)
            y += height + _GAP
    return image


def change_colour(change: float, top: float) -> Colour:
    """The colour (red, green, blue, 0 to 255) of a change where `top` is the largest of a single head."""
    return signed_colour(change / top)


def _top_of(sites: Sequence[SiteChanges]) -> float:
    """The end of the colour scale: the largest change of a head, or of a layer where no head can be told apart."""
    by_head = [change for changes in sites for change in changes.heads.values()]
    by_layer = [change for changes in sites for change in changes.layers.values()]
    finite = [change for change in by_head or by_layer if _is_finite(change)]
    return max([abs(change) for change in finite if change], default=1.0)


def _cell(columns: int, heads: int) -> tuple[int, int]:
    """Width and height of a cell, the largest that fits."""
    room = (MAX_WIDTH - 2 * _MARGIN + _GAP) // columns - _GAP - _LAYER_LABELS - _ALL_GAP
    width = max(1, min(_LARGEST_CELL[0], room // (heads + 1)))
    return width, min(_LARGEST_CELL[1], max(width, 12))


def _layers_of(changes: SiteChanges) -> list[int]:
    return sorted({*changes.layers, *(layer for layer, _ in changes.heads)})


def _map_height(changes: SiteChanges, cell_height: int) -> int:
    return _CAPTION + _HEAD_LABELS + len(_layers_of(changes)) * cell_height


def _draw_map(
    image: Image.Image,
    changes: SiteChanges,
    place: tuple[int, int],
    cell: tuple[int, int],
    heads: int,
    top: float,
) -> None:
    left, y = place
    whole = "" if changes.whole is None else f"   all of it {_number(changes.whole)}"
    _write(image, f"{changes.site}{whole}", (left, y), 13, _INK)
    y += _CAPTION
    lettered = cell[0] >= _SMALLEST_LETTERED_CELL
    left += _LAYER_LABELS
    last = left + heads * cell[0] + _ALL_GAP
    for head in range(0, heads, 1 if lettered else 8):
        label = f"head {head + 1}" if cell == _LARGEST_CELL else str(head + 1)
        _centred(image, label, (left + head * cell[0], y, cell[0]), 11)
    _centred(image, "all", (last, y, cell[0]), 11)
    y += _HEAD_LABELS
    for layer in _layers_of(changes):
        _write(image, f"layer {layer + 1}", (left - _LAYER_LABELS, y + cell[1] // 2 - 8), 11, _MUTED)
        for head in range(heads):
            if (layer, head) in changes.heads:
                _draw_cell(image, changes.heads[layer, head], (left + head * cell[0], y), cell, top)
        if layer in changes.layers:
            _draw_cell(image, changes.layers[layer], (last, y), cell, top)
        y += cell[1]


def _draw_cell(image: Image.Image, change: float, place: tuple[int, int], cell: tuple[int, int], top: float) -> None:
    colour = change_colour(change, top) if _is_finite(change) else _FRAME
    left, y = place
    gap = 1 if cell[0] > 4 else 0
    draw = ImageDraw.Draw(image)
    draw.rectangle((left, y, left + cell[0] - 1 - gap, y + cell[1] - 1 - gap), fill=colour)
    if cell[0] >= _SMALLEST_LETTERED_CELL:
        ink = _PAPER if _luminance(colour) < _DARK else _INK
        _centred(image, _number(change), (left, y + cell[1] // 2 - 9, cell[0] - gap), 13, ink)


def _luminance(colour: Colour) -> float:
    """Relative luminance, 0 to 1 (WCAG 2.2, https://www.w3.org/TR/WCAG22/#dfn-relative-luminance)."""
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def _draw_header(image: Image.Image, title: str, subtitle: str, top: float) -> None:
    """Title and subtitle, and at the right what the colours mean."""
    bar_width, bar_height, size = 120, 12, 12
    high = f"{top:.3g} or more"
    right = image.width - _MARGIN
    start = right - text_width(high, size) - 6 - bar_width
    y = _MARGIN + 50
    for x in range(bar_width):
        image.paste(weight_colour(x / (bar_width - 1)), (start + x, y, start + x + 1, y + bar_height))
    ImageDraw.Draw(image).rectangle((start - 1, y - 1, start + bar_width, y + bar_height), outline=_FRAME)
    _write(image, high, (start + bar_width + 6, y - 2), size, _MUTED)
    note = "orange: a fall    0"
    _write(image, note, (start - 6 - text_width(note, size), y - 2), size, _MUTED)
    room = image.width - 2 * _MARGIN
    _write(image, shorten(title, 19, room), (_MARGIN, _MARGIN - 2), 19, _INK)
    _write(image, shorten(subtitle, 13, room), (_MARGIN, _MARGIN + 26), 13, _MUTED)


def _number(change: float) -> str:
    """As many decimals as a cell has room for, three at most."""
    if not _is_finite(change):
        return "broken"
    decimals = 3 if abs(change) < 1 else 2 if abs(change) < 10 else 0
    text = f"{change:+.{decimals}f}"
    return text.lstrip("+-") if float(text) == 0 else text


def _is_finite(change: float) -> bool:
    return abs(change) < float("inf")


def _centred(image: Image.Image, text: str, place: tuple[int, int, int], size: int, colour: Colour = _MUTED) -> None:
    left, y, width = place
    _write(image, text, (left + (width - text_width(text, size)) // 2, y), size, colour)


def _write(image: Image.Image, text: str, place: tuple[int, int], size: int, colour: Colour) -> None:
    image.paste(colour, place, text_mask(text, size))
