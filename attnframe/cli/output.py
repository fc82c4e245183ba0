"""Printing for every command: a table on a terminal, plain lines in a pipe, or JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from attnframe.errors import UserError


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """On a terminal a table that wraps; else a header line and one line a row, cells between tabs.

    Whole numbers get thousands separators, None is an empty cell.
    """
    rows = [list(row) for row in rows]
    if sys.stdout.isatty():
        _print_rich(columns, rows)
    else:
        write("".join("\t".join(map(_cell, row)) + "\n" for row in [columns, *rows]))


def print_json(value: Any) -> None:
    """`value` as indented JSON; what JSON cannot hold is written as text."""
    write(json.dumps(value, indent=2, ensure_ascii=False, default=str) + "\n")


def write(text: str) -> None:
    """`text` to standard output at once. Raises BrokenPipeError when the reader has gone away."""
    encoding = sys.stdout.encoding or "utf-8"
    # Formulas hold √ and Σ, which not every terminal can show.
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
    sys.stdout.flush()


@contextlib.contextmanager
def counting(what: str) -> Iterator[Callable[[int], None]]:
    """A line on the terminal's standard error that counts `what`; call the yielded function with each new number."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(f"{{task.completed:.0f}} {what}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda number: progress.advance(task, number)


def wants_help(arguments: Sequence[str]) -> bool:
    """Whether `-h` or `--help` is among the arguments."""
    return not {"-h", "--help"}.isdisjoint(arguments)


def split_json_flag(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The arguments without ``--json``, and whether it was there. Raises `UserError` for any other flag."""
    rest = [argument for argument in arguments if argument != "--json"]
    for argument in rest:
        if argument.startswith("-"):
            raise UserError(f"{argument}: there is no such flag; possible are --json and -h")
    return rest, len(rest) < len(arguments)


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    # Here, for a pipe need not wait for it.
    from rich.console import Console
    from rich.measure import Measurement
    from rich.segment import Segment
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for index, column in enumerate(columns):
        numeric = any(isinstance(row[index], int | float) and not isinstance(row[index], bool) for row in rows)
        cells = [_cell(row[index]) for row in rows]
        # A name or a number cut in two is another one; of a text only the words stay whole, within reason.
        parts = cells if numeric or index == 0 else [word for cell in cells for word in cell.split()]
        width = max(map(len, [*column.split(), *(part for part in parts if numeric or len(part) <= 24)]))
        table.add_column(Text(column), justify="right" if numeric else "left", overflow="fold", min_width=width)
    for row in rows:
        # As Text, for brackets in a cell are no markup.
        table.add_row(*(Text(_cell(value)) for value in row))
    console = Console()
    narrowest = Measurement.get(console, console.options, table).minimum
    # Rich may overshoot the width it is given by a few columns: the first at which it keeps within the terminal. In one
    # that is too narrow even for the narrowest table the terminal itself breaks the lines.
    for width in range(console.width, narrowest, -1):
        lines = Segment.split_lines(console.render(table, console.options.update_width(width)))
        if max(map(Segment.get_line_length, lines)) <= console.width:
            break
    else:
        width = narrowest
    console.width = width
    console.print(table, crop=False)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.1f}"
    # A cell is one field of one line, whatever is in it.
    return " ".join(str(value).split())
