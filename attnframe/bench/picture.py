"""A benchmark as a picture: time and memory over the length, both axes logarithmic, a curve for each line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from attnframe.bench.figures import Measured, Row
from attnframe.bench.growth import Growth
from attnframe.bench.lines import Line
from attnframe.errors import UserError
from attnframe.patterns.pictures.figure_file import settings_of_figures, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Of Okabe and Ito 2008, https://jfly.uni-koeln.de/color/: told apart by every eye.
_COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#1e222a")
_MARKS: Final = ("o", "s", "^", "D", "v", "P", "X", "*")
_STROKES: Final = ("-", "--", ":", "-.")
_INK: Final = "#606874"
# Inches.
_PANEL: Final = (3.4, 2.7)
_LINE: Final = 0.2

_Value = Callable[[Measured], float | None]


def draw(rows: Sequence[Row], growths: Sequence[Growth], path: Path) -> None:
    """Draw `rows` into `path`, a .png, .svg or .pdf: a row of panels for each of what is timed.

    A colour is a variant with its settings, a mark and a stroke a backend. Times have bars from quartile to quartile.
    Raises `UserError` where nothing was measured, or the file cannot be written.
    """
    measured = [row for row in rows if row.forward is not None and row.length is not None]
    if not measured:
        raise UserError(f"--figure {path}: there is nothing to draw, for nothing could be measured")
    with settings_of_figures():
        write_figure(_figure(measured, {growth.line: growth for growth in growths}), path)


def _figure(rows: Sequence[Row], growths: dict[Line, Growth]) -> Figure:
    kinds = list(dict.fromkeys(row.line.timed for row in rows))
    lines = list(dict.fromkeys(row.line for row in rows))
    names = _names(rows, lines)
    looks = _looks(rows, lines)
    below = (len(set(names.values())) + 1) * _LINE
    size = 3 * _PANEL[0], len(kinds) * _PANEL[1] + below
    figure = Figure(figsize=size)
    grid = figure.subplots(len(kinds), 3, squeeze=False)
    figure.subplots_adjust(
        left=0.04, right=0.99, top=1 - 0.3 / size[1], bottom=(below + 0.4) / size[1], wspace=0.2, hspace=0.45
    )
    curves: dict[str, Any] = {}
    for axes_of_kind, kind in zip(grid, kinds, strict=True):
        for axes, (title, unit, forward, value) in zip(axes_of_kind, _PANELS, strict=True):
            _prepare(axes, f"{kind}: {title}, {unit}", sorted({row.length or 0 for row in rows}))
            for line in lines:
                own = [row for row in rows if row.line is line and row.line.timed == kind]
                if drawn := _curve(axes, own, forward, value, looks[line]):
                    curves.setdefault(names[line], (drawn, _grown(growths.get(line), kind)))
    labels = [f"{name}{grown}" for name, (_, grown) in curves.items()]
    figure.legend(
        [drawn for drawn, _ in curves.values()],
        labels,
        loc="lower left",
        bbox_to_anchor=(0.03, 0.0),
        frameon=False,
        fontsize=8,
        ncols=1 if max(map(len, labels)) > 60 else 2,
    )
    return figure


def _milliseconds(measured: Measured) -> float:
    return 1e3 * measured.seconds.median


def _mebibytes(measured: Measured) -> float | None:
    return None if measured.peak_bytes is None else measured.peak_bytes / 2**20


# Title, unit, whether it is of the forward pass, and the value.
_PANELS: Final[tuple[tuple[str, str, bool, _Value], ...]] = (
    ("forward time", "ms", True, _milliseconds),
    ("backward time", "ms", False, _milliseconds),
    ("peak memory, forward", "MiB", True, _mebibytes),
)


def _prepare(axes: Axes, title: str, lengths: Sequence[int]) -> None:
    axes.set(xscale="log", yscale="log")
    axes.set_title(title, fontsize=9, loc="left", parse_math=False)
    axes.set_xlabel("length", fontsize=8)
    axes.set_xticks(lengths, [str(length) for length in lengths], fontsize=7, rotation=45 if len(lengths) > 5 else 0)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, place: f"{value:g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.tick_params(labelsize=7, length=2, colors=_INK)
    axes.grid(True, linewidth=0.4, color="#dde1e7")
    for name, spine in axes.spines.items():
        spine.set(color="#cdd3db", linewidth=0.6, visible=name in ("left", "bottom"))


def _curve(axes: Axes, rows: Sequence[Row], forward: bool, value: _Value, look: dict[str, Any]) -> Any:
    """The curve that was drawn; None where there is nothing to draw."""
    points = [
        (row.length or 0, found, measured)
        for row in sorted(rows, key=lambda row: row.length or 0)
        if (measured := row.forward if forward else row.backward) is not None and (found := value(measured))
    ]
    if not points:
        return None
    across, up = [length for length, _, _ in points], [found for _, found, _ in points]
    (drawn,) = axes.plot(across, up, markersize=4, linewidth=1.2, **look)
    if value is _milliseconds:
        spread = [
            [found - 1e3 * measured.seconds.lower for _, found, measured in points],
            [1e3 * measured.seconds.upper - found for _, found, measured in points],
        ]
        axes.errorbar(across, up, spread, fmt="none", ecolor=look["color"], elinewidth=0.8, capsize=2)
    return drawn


def _names(rows: Sequence[Row], lines: Sequence[Line]) -> dict[Line, str]:
    """A line's variant and backend, and those of its settings that are not the same for all."""
    backends = {row.line: row.backend for row in rows}
    settings = [{**vars(line)} for line in lines]
    varied = [
        name
        for name in ("dtype", "d_model", "num_heads", "causal", "batch", "tokens")
        if len({each[name] for each in settings}) > 1
    ]
    return {
        line: ", ".join([f"{line.label} {backends[line]}", *(f"{name} {vars(line)[name]}" for name in varied)])
        for line in lines
    }


def _looks(rows: Sequence[Row], lines: Sequence[Line]) -> dict[Line, dict[str, Any]]:
    backends = {row.line: row.backend for row in rows}
    known = list(dict.fromkeys(backends[line] for line in lines))

    def settings(line: Line) -> tuple[Any, ...]:
        return line.label, line.dtype, line.d_model, line.num_heads, line.causal, line.batch, line.tokens

    kinds = list(dict.fromkeys(map(settings, lines)))
    looks = {}
    for line in lines:
        colour, backend = kinds.index(settings(line)), known.index(backends[line])
        looks[line] = {
            "color": _COLOURS[colour % len(_COLOURS)],
            "marker": _MARKS[(backend + colour // len(_COLOURS)) % len(_MARKS)],
            "linestyle": _STROKES[backend % len(_STROKES)],
        }
    return looks


def _grown(growth: Growth | None, kind: str) -> str:
    if growth is None or growth.forward_seconds is None:
        return ""
    memory = "" if growth.forward_bytes is None else f", memory ~ length^{growth.forward_bytes:.1f}"
    return f"   ({kind}: forward time ~ length^{growth.forward_seconds:.1f}{memory})"
