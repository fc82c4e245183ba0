"""A figure of matplotlib as a file: PNG, SVG or PDF, the same bytes for the same figure."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from pathlib import Path

import matplotlib as mpl
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from attnframe.errors import UserError, did_you_mean

_CANVASES = {"png": FigureCanvasAgg, "svg": FigureCanvasSVG, "pdf": FigureCanvasPdf}
# The same file for the same figure; `metadata` of each format without the time of day.
_METADATA: dict[str, dict[str, str | None]] = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}


def check_figure_path(path: Path) -> None:
    """Raises `UserError` where no figure could be written: another suffix than png, svg and pdf, or no such folder."""
    suffix = path.suffix.removeprefix(".").lower()
    if suffix not in _CANVASES:
        raise UserError(f"--figure {path}: its end says the format, {did_you_mean(suffix, _CANVASES)}")
    # A Path would raise for what is too long to be a name.
    if not os.path.isdir(path.parent):  # noqa: PTH112
        raise UserError(f"--figure {path}: there is no folder {path.parent}")
    if os.path.isdir(path):  # noqa: PTH112
        raise UserError(f"--figure {path}: this is a folder")
    if not os.access(path.parent, os.W_OK):
        raise UserError(f"--figure {path}: the folder {path.parent} cannot be written to")


@contextlib.contextmanager
def settings_of_figures() -> Iterator[None]:
    """Within this context whoever has settings of his own for matplotlib gets the same figure; text stays text."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "attnframe", "pdf.fonttype": 42})
        yield


def write_figure(figure: Figure, path: Path) -> None:
    """Into `path`, which is replaced only once the figure is complete. Raises `UserError` where it cannot be."""
    suffix = path.suffix.removeprefix(".").lower()
    written = io.BytesIO()
    _CANVASES[suffix](figure).print_figure(
        written, format=suffix, dpi=200, bbox_inches="tight", pad_inches=0.05, metadata=_METADATA[suffix]
    )
    _replace(path, written.getvalue())


def _replace(path: Path, content: bytes) -> None:
    # Its own name and not one made of `path`, which may be as long as a name can be.
    partial = path.with_name(f".attnframe-{os.getpid()}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise UserError(f"--figure {path}: it cannot be written: {error.strerror}") from error
