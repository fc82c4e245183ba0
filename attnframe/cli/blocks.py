"""Titled blocks of rows: tables with shaded cells on a terminal, and else plain lines with tabs between cells."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from attnframe.cli.output import write

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

# Characters that turn the direction of what follows them, far beyond their own cell.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_GAP = 2


@dataclass(frozen=True)
class Block:
    """A title over rows of cells; without `columns` there is no heading.

    `words` counts the columns from the left that hold words; the others hold numbers, and stand right-aligned. On a
    terminal, columns of numbers that do not fit beside one another come below, behind the words again. With `shades`
    (-1 to 1, a row for each row) the cells behind the first one are shaded.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    shades: Sequence[Sequence[float]] | None = None
    words: int = 1


def print_blocks(blocks: Sequence[Block]) -> None:
    """To standard output. In a pipe titles begin with ``# ``, every cell is there, and a row is a line."""
    if not sys.stdout.isatty():
        write("\n".join("".join(f"{line}\n" for line in _plain(block)) for block in blocks))
        return
    # Here, for a pipe need not wait for it.
    from rich.console import Console

    console = Console()
    with console.capture() as capture:
        for block in blocks:
            for renderable in _rich(block, console):
                console.print(renderable)
            console.print()
    write(capture.get())


def _plain(block: Block) -> Iterator[str]:
    if block.title:
        yield f"# {readable(block.title)}"
    for row in [block.columns] * bool(block.columns) + list(block.rows):
        yield "\t".join(map(readable, row))


def _rich(block: Block, console: Console) -> Iterator[RenderableType]:
    from rich.table import Table
    from rich.text import Text

    if block.title:
        yield Text(readable(block.title), style="bold")
    if not block.rows:
        return
    widths = _widths(block, console.width)
    for part, chosen in enumerate(_folded(block, widths, console.width)):
        if part:
            yield ""
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, show_header=bool(block.columns))
        for column in chosen:
            heading = Text(readable(block.columns[column]) if block.columns else "")
            number = column >= block.words and bool(block.columns)
            width = widths[column] if number else None
            table.add_column(heading, justify="right" if number else "left", overflow="fold", width=width)
        for index, row in enumerate(block.rows):
            table.add_row(*(Text(readable(row[column]), style=_style(block, index, column)) for column in chosen))
        yield table


def _widths(block: Block, available: int) -> list[int]:
    """Of each column, with its heading in one line if all then fit beside one another, else between its words."""
    from rich.cells import cell_len

    cells = [max(cell_len(readable(row[column])) for row in block.rows) for column in range(len(block.rows[0]))]
    if not block.columns:
        return cells
    headings = [readable(heading) for heading in block.columns]
    whole = [max(cell, cell_len(heading)) for cell, heading in zip(cells, headings, strict=True)]
    if sum(whole) + _GAP * len(whole) <= available:
        return whole
    return [
        max(cell, *map(cell_len, heading.split() or [""]), 1) for cell, heading in zip(cells, headings, strict=True)
    ]


def _folded(block: Block, widths: Sequence[int], available: int) -> Iterator[list[int]]:
    """The columns that stand beside one another; each part begins with those of words."""
    count = len(widths)
    words = list(range(block.words if block.columns else count))
    chosen, used = list(words), sum(widths[column] + _GAP for column in words)
    for column in range(len(words), count):
        # No gap is needed behind the last one.
        if used + widths[column] > available and len(chosen) > len(words):
            yield chosen
            chosen, used = list(words), sum(widths[column] + _GAP for column in words)
        chosen.append(column)
        used += widths[column] + _GAP
    yield chosen


def _style(block: Block, row: int, column: int) -> str:
    from attnframe.patterns.pictures.colours import signed_colour

    if block.shades is None or not 1 <= column <= len(block.shades[row]):
        return ""
    red, green, blue = signed_colour(block.shades[row][column - 1])
    # The better contrast of the two, by how bright the eye sees the shade.
    is_bright = (0.2126 * (red / 255) ** 2.2 + 0.7152 * (green / 255) ** 2.2 + 0.0722 * (blue / 255) ** 2.2) > 0.18
    return f"{'#000000' if is_bright else '#ffffff'} on #{red:02x}{green:02x}{blue:02x}"


def readable(text: str) -> str:
    """`text` in one line, with what would steer a terminal, or turn the direction of a line, spelt out."""
    return "".join(
        f"\\u{ord(character):04x}" if unicodedata.category(character) == "Cc" or character in _TURNING else character
        for character in " ".join(text.split())
    )
