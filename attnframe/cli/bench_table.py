"""The rows of a benchmark as a table on a terminal, plain lines, CSV and JSON: everywhere the same columns."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from attnframe.bench import Growth, Measured, Row
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
    return Column(f"{key}_growth", heading, lambda row, growth: growth and getattr(growth, key), _power)


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

# Columns that a terminal shows whatever is in them.
_ALWAYS = ("timed", "variant", "backend", "length")
_GROWTH = tuple(column for column in COLUMNS if column.key.endswith("_growth"))


def print_rows(rows: Sequence[Row], growths: Sequence[Growth], rounds: int) -> None:
    """Every column in a pipe. On a terminal first what all rows have in common, and the growth in a table of its own."""
    by_line = {growth.line: growth for growth in growths}
    if not sys.stdout.isatty():
        _print(COLUMNS, rows, by_line)
        return
    same = {column: values.pop() for column in COLUMNS if len(values := _values(column, rows, by_line)) == 1}
    told = [f"{c.heading} {c.cell(v)}" for c, v in same.items() if c.is_setting and c.key not in _ALWAYS]
    write(
        f"{', '.join(told)}. module: a whole variant, from embeddings to embeddings. attend: from q, k and v alone.\n"
        f"ms: median of up to {rounds} rounds; forward without gradients, backward alone. peak: memory of a call "
        f"beyond what is there before. kernel: what ran in attend and took longest.\n\n"
    )
    hidden = {column for column in same if column.is_setting and column.key not in _ALWAYS}
    shown = [c for c in COLUMNS if c not in hidden and c not in _GROWTH and "quartile" not in c.key]
    _print([c for c in shown if _values(c, rows, by_line) != {None}], rows, by_line)
    if growths:
        write("\ngrowth: what one sequence takes is as its length to this power, over the longer lengths\n\n")
        last = [row for row in rows if row.line in by_line and row.length == by_line[row.line].longest]
        columns = [c for c in COLUMNS if c.is_setting and c not in hidden and c.key not in ("length", "batch")]
        _print([*columns, _FITTED, *_GROWTH], last, by_line)


_FITTED = Column("lengths", "lengths", lambda row, growth: growth and f"{growth.shortest} to {growth.longest}", _plain)


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


def _values(column: Column, rows: Sequence[Row], by_line: dict[Any, Growth]) -> set[Value]:
    values = {column.value(row, by_line.get(row.line)) for row in rows}
    # A line that cannot run has neither length nor batch.
    return values - {None} if column.is_setting else values
