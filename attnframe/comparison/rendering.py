"""A comparison as text: Markdown to read, CSV and JSON to compute with, LaTeX for a paper."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from attnframe.comparison.comparing import Comparison
from attnframe.patterns.page import PageTable

_CSV_COLUMNS = ("group", "set", "measure", "mean", "low", "high", "runs", "of_runs")

_TEX_SIGNS = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
}


def markdown(comparison: Comparison, title: str) -> str:
    """All tables, the warnings before them."""
    parts = [f"# {_md(title)}", _md(headline(comparison))]
    if comparison.warnings:
        parts += ["## Before you believe it", "\n".join(f"- {_md(sentence)}" for sentence in comparison.warnings)]
    for table in _tables(comparison):
        parts += [f"## {table.title}", _markdown_table(table)]
        if table.caption:
            parts.append(_md(table.caption))
    return "\n\n".join(parts) + "\n"


def csv_text(comparison: Comparison) -> str:
    """A row for each group, set and measure, unrounded; costs have no set."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_CSV_COLUMNS)
    for number in comparison.numbers:
        found = number.estimate
        writer.writerow(
            [number.group, number.set, number.measure, found.mean, found.low, found.high, found.count, found.seeds]
        )
    return text.getvalue()


def latex(comparison: Comparison) -> str:
    """Scores, cost and differences as `tabular` environments, for the package booktabs."""
    tables = [*comparison.scores, comparison.cost, *filter(None, [comparison.difference_table])]
    parts = ["% Needs \\usepackage{booktabs}."]
    # A line break would end the comment.
    parts += [f"% Warning: {' '.join(sentence.split())}" for sentence in comparison.warnings]
    return "\n".join([*parts, *map(_latex_table, tables)]) + "\n"


def as_json(comparison: Comparison) -> dict[str, Any]:
    """Everything but curves and patterns, as plain data; what is not finite is null."""
    return {
        "reference": comparison.reference.name,
        "groups": [
            {
                "name": group.name,
                "runs": [str(run.path) for run in group.runs],
                "seeds": [run.seed for run in group.runs],
                "left_out": [{"run": str(run.path), "why": why} for run, why in group.left_out],
            }
            for group in comparison.groups
        ],
        "numbers": [
            {
                "group": number.group,
                "set": number.set or None,
                "measure": number.measure,
                "mean": number.estimate.mean,
                "low": number.estimate.low,
                "high": number.estimate.high,
                "runs": number.estimate.count,
            }
            for number in comparison.numbers
        ],
        "differences": [
            {
                "first": one.first,
                "second": one.second,
                "set": one.set,
                "measure": one.measure,
                "difference": one.found.difference,
                "low": one.found.low if math.isfinite(one.found.low) else None,
                "high": one.found.high if math.isfinite(one.found.high) else None,
                "p": one.found.p,
                "p_holm": one.p_holm,
                "verdict": one.verdict,
            }
            for one in comparison.differences
        ],
        "warnings": [{"kind": caveat.kind, "sentence": caveat.sentence} for caveat in comparison.caveats],
        "problems": list(comparison.problems),
    }


def headline(comparison: Comparison) -> str:
    """How much is compared with what."""
    groups = [group for group in comparison.groups if group.runs]
    text = f"{_count(comparison.runs, 'run')} in {_count(len(groups), 'group')}"
    return f"{text}, compared with {comparison.reference.name}." if len(groups) > 1 else f"{text}."


FORMATS: Mapping[str, Callable[[Comparison], str]] = {
    "markdown": lambda comparison: markdown(comparison, "Comparison"),
    "csv": csv_text,
    "latex": latex,
}


def _tables(comparison: Comparison) -> list[PageTable]:
    tables = [
        *comparison.scores,
        comparison.difference_table,
        comparison.cost,
        *comparison.further,
        comparison.left_out,
    ]
    return [table for table in tables if table is not None and table.rows]


def _markdown_table(table: PageTable) -> str:
    rows = [list(map(_md, table.columns)), *([_md(_cell(cell)) for cell in row] for row in table.rows)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(table.columns))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _latex_table(table: PageTable) -> str:
    rows = [" & ".join(_tex(_cell(cell)) for cell in row) + r" \\" for row in table.rows]
    heading = " & ".join(map(_tex, table.columns)) + r" \\"
    layout = "l" * len(table.columns)
    lines = [rf"\begin{{tabular}}{{{layout}}}", r"\toprule", heading, r"\midrule", *rows, r"\bottomrule"]
    return "\n".join([f"% {table.title}", *lines, r"\end{tabular}"])


def _cell(cell: str | float | int | None) -> str:
    return "" if cell is None else str(cell)


def _md(text: str) -> str:
    # An underscore inside of a word is no emphasis.
    text = " ".join(text.split())
    for sign in "\\|*<`":
        text = text.replace(sign, f"\\{sign}")
    return text


def _tex(text: str) -> str:
    # A line break in a name is no line of the table.
    escaped = "".join(_TEX_SIGNS.get(sign, sign) for sign in " ".join(text.split()))
    # Before a number a hyphen is a minus, which TeX sets otherwise.
    return re.sub(r"(?<![\w-])-(?=\d)", "$-$", escaped)


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
