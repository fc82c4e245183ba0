"""The rows of a benchmark as a table on a terminal, plain lines, CSV and JSON: everywhere the same columns."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from attnframe.bench import Growth, Line, Measured, Row
from attnframe.bench.looking import short_name
from attnframe.cli.output import print_table, write

Value = str | int | float | bool | None


@dataclass(frozen=True)
class Column:
    """`key` names it in CSV and JSON, where `value` is in seconds, bytes and TFLOP/s; `heading` in a table."""

    key: str
    heading: str
    value: Callable[[Row, Growth | None], Value]
    cell: Callable[[Value], str] = str
    is_setting: bool = False


def _plain(value: Value) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)


def _milliseconds(value: Value) -> str:
    return _figures(1e3 * float(value or 0))


def _figures(value: Value) -> str:
    """Three figures, and none of them an exponent."""
    number = float(value or 0)
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:#.3g}" if abs(number) >= 1e-3 else f"{number:.6f}"


def _mebibytes(value: Value) -> str:
    return f"{float(value or 0) / 2**20:.2f}"


def _power(value: Value) -> str:
    return f"{float(value or 0):.2f}"


def _setting(key: str, heading: str, value: Callable[[Row], Value]) -> Column:
    return Column(key, heading, lambda row, growth: value(row), _plain, is_setting=True)


def _of_pass(name: str, made: Callable[[Row], Measured | None]) -> list[Column]:
    whole = "forward" if name == "forward" else "forward and backward"

    def column(key: str, heading: str, value: Callable[[Measured], Value], cell: Callable[[Value], str]) -> Column:
        def of(row: Row, growth: Growth | None) -> Value:
            measured = made(row)
            return None if measured is None else value(measured)

        return Column(f"{name}_{key}", f"{whole if key == 'peak_bytes' else name} {heading}", of, cell)

    return [
        column("seconds", "ms", lambda m: m.seconds.median, _milliseconds),
        column("seconds_lower_quartile", "lower quartile", lambda m: m.seconds.lower, _milliseconds),
        column("seconds_upper_quartile", "upper quartile", lambda m: m.seconds.upper, _milliseconds),
        column("tflops", "TFLOP/s", lambda m: m.tflops, _figures),
        column("peak_bytes", "peak MiB", lambda m: m.peak_bytes, _mebibytes),
        column("kernel", "kernel", lambda m: short_name(m.kernels[0]) if m.kernels else None, _plain),
    ]


def _growth(key: str, heading: str) -> Column:
    return Column(f"{key}_growth", heading, lambda row, growth: getattr(growth, key, None), _power)


COLUMNS: tuple[Column, ...] = (
    _setting("timed", "timed", lambda row: row.line.timed),
    _setting("variant", "variant", lambda row: row.line.label),
    _setting("backend", "backend", lambda row: row.backend),
    _setting("device", "device", lambda row: row.device),
    _setting("dtype", "dtype", lambda row: row.line.dtype),
    _setting("d_model", "d_model", lambda row: row.line.d_model),
    _setting("num_heads", "num_heads", lambda row: row.line.num_heads),
    _setting("causal", "causal", lambda row: row.line.causal),
    _setting("batch", "batch", lambda row: row.batch),
    _setting("length", "length", lambda row: row.length),
    *_of_pass("forward", lambda row: row.forward),
    *_of_pass("backward", lambda row: row.backward),
    _growth("forward_seconds", "forward time ~ length^"),
    _growth("backward_seconds", "backward time ~ length^"),
    _growth("forward_bytes", "forward memory ~ length^"),
    _growth("backward_bytes", "backward memory ~ length^"),
    Column("note", "note", lambda row, growth: row.note or None, _plain),
)

# Of a terminal's tables, whatever is in them.
_NAMES = ("timed", "variant", "backend", "length")
_FITTED = Column(
    "lengths", "lengths", lambda row, growth: None if growth is None else f"{growth.shortest}-{growth.longest}"
)
_SPREAD = {
    "forward_seconds": Column("forward_seconds", "forward ms", lambda row, growth: _with_spread(row.forward)),
    "backward_seconds": Column("backward_seconds", "backward ms", lambda row, growth: _with_spread(row.backward)),
}


def print_rows(rows: Sequence[Row], growths: Sequence[Growth], rounds: int) -> None:
    """Every column and row in a pipe. On a terminal tables of the numbers, of growth and of kernels, and the notes;
    what all rows have in common is said once."""
    by_line = {growth.line: growth for growth in growths}
    if not sys.stdout.isatty():
        _print(COLUMNS, rows, by_line)
        return
    settings = [column for column in COLUMNS if column.is_setting]
    # A line that cannot run has neither length nor batch.
    found = {column: {column.value(row, None) for row in rows} - {None} for column in settings}
    same = [column for column in settings if len(found[column]) == 1 and column.key not in _NAMES]
    names = [column for column in settings if column not in same]
    ran = [row for row in rows if row.length is not None]
    write(
        f"{', '.join(f'{column.heading} {column.cell(found[column].pop())}' for column in same)}\n"
        "module: a whole variant, from embeddings to embeddings; attend: what it asks of its backend, from q, k and v\n"
        f"ms: median of {rounds} rounds ± half of what lies between the quartiles; forward is without gradients, "
        "backward alone\n"
        "peak: memory beyond what is there before the call\n\n"
    )
    if ran:
        kinds = ("_seconds", "_tflops", "_peak_bytes")
        numbers = [_SPREAD.get(column.key, column) for column in COLUMNS if column.key.endswith(kinds)]
        _print([*names, *numbers], ran, by_line)
        last = {row.line: row for row in sorted(ran, key=lambda row: row.length or 0) if row.forward is not None}
        of_lines = [column for column in names if column.key not in ("length", "batch")]
        if growths:
            write("\ngrowth: what one sequence takes is as its length to this power, over the longer lengths\n\n")
            exponents = [column for column in COLUMNS if column.key.endswith("_growth")]
            _print([*of_lines, _FITTED, *exponents], [last[growth.line] for growth in growths], by_line)
        write("\nkernels: what ran in attend and took longest; of `own`, in the whole module\n\n")
        kernels = [column for column in COLUMNS if column.key.endswith("_kernel")]
        _print(
            [*of_lines, *kernels], [last[line] for line in dict.fromkeys(row.line for row in ran) if line in last], {}
        )
    for sentence in _notes(rows):
        write(f"\n{sentence}\n")


def _with_spread(measured: Measured | None) -> str | None:
    if measured is None:
        return None
    seconds = measured.seconds
    percent = 50 * (seconds.upper - seconds.lower) / seconds.median if seconds.median else 0.0
    # Without a space, at which a narrow terminal would part them.
    return f"{_milliseconds(seconds.median)}±{percent:.0f}%"


def _notes(rows: Sequence[Row]) -> list[str]:
    """Each note once for a line, with the lengths that have it."""
    lengths: dict[tuple[Line, str, str], list[int]] = {}
    for row in rows:
        if row.note:
            lengths.setdefault((row.line, row.backend, row.note), []).extend([row.length] if row.length else [])
    sentences = []
    for (line, backend, note), having in lengths.items():
        where = f" at length {', '.join(map(str, having))}" if having else ""
        sentences.append(f"{line.timed} {line.label} {backend} {line.dtype}{where}: {note}")
    return sentences


def as_records(rows: Sequence[Row], growths: Sequence[Growth]) -> list[dict[str, Value]]:
    """Each row by the keys of its columns."""
    by_line = {growth.line: growth for growth in growths}
    return [{column.key: column.value(row, by_line.get(row.line)) for column in COLUMNS} for row in rows]


def as_json(rows: Sequence[Row], growths: Sequence[Growth]) -> list[dict[str, Any]]:
    """The same, with the whole names of all kernels."""
    return [
        {
            **record,
            "options": dict(row.line.options),
            "forward_kernels": list(row.forward.kernels) if row.forward else [],
            "backward_kernels": list(row.backward.kernels) if row.backward else [],
            "rounds": row.forward.rounds if row.forward else 0,
        }
        for row, record in zip(rows, as_records(rows, growths), strict=True)
    ]


def as_csv(rows: Sequence[Row], growths: Sequence[Growth]) -> str:
    """A header line and a line for each row; what is not known is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [column.key for column in COLUMNS], lineterminator="\n")
    writer.writeheader()
    writer.writerows(as_records(rows, growths))
    return text.getvalue()


def _print(columns: Sequence[Column], rows: Sequence[Row], by_line: dict[Any, Growth]) -> None:
    print_table([column.heading for column in columns], [[_cell(c, row, by_line) for c in columns] for row in rows])


def _cell(column: Column, row: Row, by_line: dict[Any, Growth]) -> str | None:
    value = column.value(row, by_line.get(row.line))
    return None if value is None else column.cell(value)
