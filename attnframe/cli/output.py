"""Printing for every command: a table on a terminal, plain lines in a pipe, or JSON."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from attnframe.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console

# Between two columns.
_GAP = 2
# What is longer than this may be cut, in a text.
_LONG_WORD = 24


def print_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """On a terminal a table that wraps, or where that is too narrow the rows one below the other; else a header line
    and one line a row, cells between tabs.

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


def split_json_flag(arguments: Sequence[str], others: Sequence[str] = ()) -> tuple[list[str], bool]:
    """The arguments without ``--json``, and whether it was there. Raises `UserError` for any other flag.

    `others` are those that the caller has taken out already, for the sentence to name.
    """
    rest = [argument for argument in arguments if argument != "--json"]
    for argument in rest:
        if argument.startswith("-"):
            raise UserError(f"{argument}: there is no such flag; possible are {', '.join([*others, '--json'])} and -h")
    return rest, len(rest) < len(arguments)


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    # Here, for a pipe need not wait for it.
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    cells = [[_cell(value) for value in row] for row in rows]
    numeric = [any(_is_number(row[index]) for row in rows) for index in range(len(columns))]
    narrowest, widest = [], []
    for index, column in enumerate(columns):
        texts = [row[index] for row in cells]
        # A name or a number cut in two is another one; of a text only the words stay whole, within reason.
        if numeric[index] or index == 0:
            parts = list(map(cell_len, texts))
        else:
            parts = [min(_LONG_WORD, cell_len(word)) for text in texts for word in text.split()]
        narrowest.append(max([*map(cell_len, column.split()), *parts]))
        widest.append(max(map(cell_len, [column, *texts])))
    widths = _widths(narrowest, widest, console.width - _GAP * (len(columns) - 1))
    if widths is None:
        _print_stacked(console, columns, cells)
        return
    table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False)
    for column, width, is_number in zip(columns, widths, numeric, strict=True):
        table.add_column(Text(column), justify="right" if is_number else "left", overflow="fold", width=width)
    for row in cells:
        # As Text, for brackets in a cell are no markup.
        table.add_row(*map(Text, row))
    console.print(table)


def _widths(narrowest: Sequence[int], widest: Sequence[int], room: int) -> list[int] | None:
    """Of each column, within `room`; what is left beyond the narrowest goes to those that want more. None: no room."""
    spare = room - sum(narrowest)
    if spare < 0:
        return None
    wanted = [most - least for least, most in zip(narrowest, widest, strict=True)]
    share = min(1.0, spare / max(1, sum(wanted)))
    return [least + int(share * more) for least, more in zip(narrowest, wanted, strict=True)]


def _print_stacked(console: Console, columns: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    """Each row as a heading with a line for each of its other cells: in a terminal too narrow for a table."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    for first, *others in cells:
        console.print(Text(first, style="bold"))
        lines = Table.grid(padding=(0, _GAP, 0, 0))
        lines.add_column(no_wrap=True, min_width=max(map(len, columns[1:]), default=0))
        lines.add_column(overflow="fold")
        for column, text in zip(columns[1:], others, strict=True):
            if text:
                lines.add_row(Text(column), Text(text))
        console.print(Padding(lines, (0, 0, 0, _GAP)))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


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
