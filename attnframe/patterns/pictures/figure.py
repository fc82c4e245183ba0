"""Patterns as a figure for a paper: PNG, or SVG and PDF with text that stays text, drawn by matplotlib."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path
from numpy.typing import NDArray

from attnframe.errors import UserError
from attnframe.patterns.pictures.figure_file import check_figure_path, settings_of_figures, write_figure
from attnframe.patterns.pictures.figure_scale import FigureScale
from attnframe.patterns.pictures.lettering import shorten

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from torch import Tensor

# Inches.
_LARGEST_CELL: Final = 0.25
_SMALLEST_CELL: Final = 0.02
_WIDEST: Final = 14.0
_HIGHEST: Final = 18.0
_GAP: Final = 0.22
_CAPTION: Final = 0.26
_BAR: Final = 0.12
# Points.
_FONT: Final = 9.0
_SMALL_FONT: Final = 7.5
_SMALLEST_FONT: Final = 3.5
_LETTERS_AN_INCH: Final = 17  # of _SMALL_FONT

_MOST_VECTOR_CELLS: Final = 20_000
"""Beyond it cells are pixels of an image: each rectangle of a vector format costs about 200 bytes."""

# After matplotlib's own font, for what that lacks.
_FALLBACK_FONTS: Final = ("Noto Sans", "Noto Sans CJK JP", "Noto Emoji", "Segoe UI Emoji", "Arial Unicode MS")


@dataclass(frozen=True)
class Panel:
    """One heat map, [query, key], and what it says below it: `short` where there is no room for `caption`."""

    caption: str
    short: str
    values: Tensor


def save_figure(
    path: Path,
    rows: Sequence[Sequence[Panel]],
    *,
    query_labels: Sequence[str],
    key_labels: Sequence[str],
    scale: str,
    largest: float | None = None,
    notes: Sequence[str] = (),
) -> str:
    """Draw `rows` of panels into `path`, which is replaced only once the figure is complete.

    All panels have the same queries (down) and keys (across), labelled at the outer panels. `scale` names the numbers
    beside the colour bar, which goes from 0 to `largest`; None means weights. Their scale goes from 0 to 1, and what is
    more takes the colour of its end; from -m to m where one is below 0, m the largest |weight| and at least 1; and up
    to the largest where that is below 0.25. The bar says which. `notes` are lines below, and where there are any, one
    more says that labels are left out. The colours are those of `draw_patterns`.
    Returns the characters for which no font was found; in SVG the viewer chooses the fonts, so there it is none.
    Raises `UserError` for values that are not finite, and where the file cannot be written.
    """
    check_figure_path(path)
    values = [[panel.values.detach().float().cpu().numpy() for panel in row] for row in rows]
    if not all(np.isfinite(array).all() for row in values for array in row):
        raise UserError(f"--figure {path}: there are numbers to draw that are not finite: the model has diverged")
    suffix = path.suffix.removeprefix(".").lower()
    with settings_of_figures(), warnings.catch_warnings():
        installed = set(font_manager.get_font_names())
        fonts = ["DejaVu Sans", *(name for name in _FALLBACK_FONTS if name in installed)]
        mpl.rcParams["font.family"] = fonts
        # Of missing glyphs the caller is told in one line.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        write_figure(_figure(rows, values, query_labels, key_labels, scale, largest, notes), path)
        missing = "" if suffix == "svg" else _missing("".join([*query_labels, *key_labels]), fonts)
    return missing


def _figure(
    rows: Sequence[Sequence[Panel]],
    values: Sequence[Sequence[NDArray[np.float32]]],
    query_labels: Sequence[str],
    key_labels: Sequence[str],
    scale: str,
    largest: float | None,
    notes: Sequence[str],
) -> Figure:
    across, down = max(map(len, rows)), len(rows)
    queries, keys = len(query_labels), len(key_labels)
    room = (_WIDEST - across * _GAP) / (across * keys), (_HIGHEST - down * (_GAP + _CAPTION)) / (down * queries)
    cell = max(_SMALLEST_CELL, min(_LARGEST_CELL, *room))
    panel = keys * cell, queries * cell
    captions, widest = _captions(rows, panel[0] if across > 1 else _WIDEST)
    pitch = max(panel[0], widest if across > 1 else 0) + _GAP
    size = across * pitch + 1.0, down * (panel[1] + _GAP + _CAPTION)
    figure = Figure(figsize=size)
    font = min(_FONT, cell * 72 * 0.7)
    colouring = FigureScale.of(values, scale, largest)
    as_image = sum(map(len, rows)) * queries * keys > _MOST_VECTOR_CELLS
    labelled: set[int] = set()
    for row in range(down):
        bottom = size[1] - (row + 1) * panel[1] - row * (_GAP + _CAPTION)
        for column, array in enumerate(values[row]):
            left = column * pitch
            axes = figure.add_axes((left / size[0], bottom / size[1], panel[0] / size[0], panel[1] / size[1]))
            _heat_map(axes, array, colouring, as_image=as_image)
            axes.set_xlabel(captions[row][column], fontsize=_FONT, parse_math=False)
            if font >= _SMALLEST_FONT:
                _label(axes, [] if column else query_labels, [] if column in labelled else key_labels, font)
            labelled.add(column)
    # The bar stands a gap behind the last panel or its caption.
    width = (across - 1) * pitch + max(panel[0], (panel[0] + widest) / 2 if across > 1 else 0) + _GAP
    height = min(panel[1], 1.6)
    bar = figure.add_axes(
        (width / size[0], (size[1] - panel[1] / 2 - height / 2) / size[1], _BAR / size[0], height / size[1])
    )
    _colour_bar(figure, bar, colouring)
    below = size[1] - down * (panel[1] + _GAP + _CAPTION) + _GAP - 0.06
    letters = round(max(width + 0.5, 3.0) * _LETTERS_AN_INCH)
    unlabelled = [] if font >= _SMALLEST_FONT or not notes else ["The words are left out: there is no room for them."]
    lines = [line for note in [*notes, *unlabelled] for line in textwrap.wrap(note, letters)]
    figure.text(0, below / size[1], "\n".join(lines), fontsize=_SMALL_FONT, color="#606874", va="top", parse_math=False)
    return figure


def _captions(rows: Sequence[Sequence[Panel]], room: float) -> tuple[list[list[str]], float]:
    """The captions of all panels, in full if the widest has `room`, else all short; and the width of the widest."""
    for captions in ([[p.caption for p in panels] for panels in rows], [[p.short for p in panels] for panels in rows]):
        widest = max(_text_width(caption) for row in captions for caption in row)
        if widest <= room:
            break
    return captions, widest


def _text_width(text: str) -> float:
    """In inches, in the font of captions."""
    points: float = text_to_path.get_text_width_height_descent(text, FontProperties(size=_FONT), ismath=False)[0]
    return points / 72


def _heat_map(axes: Axes, array: NDArray[np.float32], scale: FigureScale, *, as_image: bool) -> None:
    if as_image:
        axes.imshow(array, norm=scale.norm, cmap=scale.colours, aspect="auto", interpolation="nearest")
        axes.set_xlim(-0.5, array.shape[1] - 0.5)
    else:
        edges = [np.arange(length + 1) - 0.5 for length in array.shape]
        colouring: dict[str, Any] = {"norm": scale.norm, "cmap": scale.colours}
        axes.pcolormesh(edges[1], edges[0], array, **colouring, edgecolors="white", linewidth=0.4)
    axes.set_ylim(array.shape[0] - 0.5, -0.5)
    axes.set(xticks=[], yticks=[])
    for spine in axes.spines.values():
        spine.set(color="#cdd3db", linewidth=0.6)


def _label(axes: Axes, query_labels: Sequence[str], key_labels: Sequence[str], font: float) -> None:
    # A $ in a word is no formula.
    settings: dict[str, Any] = {"fontsize": font, "parse_math": False}
    pixels = round(_FONT)
    axes.set_yticks(range(len(query_labels)), [shorten(label, pixels) for label in query_labels], **settings)
    axes.set_xticks(range(len(key_labels)), [shorten(label, pixels) for label in key_labels], rotation=90, **settings)
    axes.tick_params(length=0, pad=2, labeltop=True, labelbottom=False, top=True)


def _colour_bar(figure: Figure, axes: Axes, scale: FigureScale) -> None:
    bar = figure.colorbar(ScalarMappable(scale.norm, scale.colours), cax=axes)
    axes.tick_params(labelsize=_SMALL_FONT, length=2, width=0.5)
    axes.set_ylabel(scale.name, fontsize=_FONT, parse_math=False)
    bar.outline.set(linewidth=0.5)
    if scale.ticks is not None:
        axes.set_yticks(*zip(*scale.ticks, strict=True))


def _missing(text: str, fonts: Sequence[str]) -> str:
    """The characters of `text` that are in none of `fonts`."""
    known: set[int] = set()
    for name in fonts:
        known |= font_manager.get_font(font_manager.findfont(name)).get_charmap().keys()
    # What is not printable is not drawn at all.
    return "".join(dict.fromkeys(c for c in text if c.isprintable() and ord(c) not in known))
