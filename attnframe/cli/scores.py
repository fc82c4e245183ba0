"""The scores of a run as a table."""

from __future__ import annotations

import re
import sys
from typing import Any

from attnframe.cli.output import print_table

_MEASURES = ("exact_match", "bleu", "chrf", "loss", "aer", "aer_norms", "aer_mean_heads", "aer_diagonal", "aer_perfect")


def print_scores(results: dict[str, Any]) -> None:
    """A row for each test set; a measure that no set has is no column. On a terminal the headings wrap."""
    sets = ["test", *(key.split("/")[1] for key in results if re.fullmatch(r"test/[^/]+/chrf", key))]
    rows = []
    for name in sets:
        prefix = "test/" if name == "test" else f"test/{name}/"
        rows.append([results.get(prefix + measure) for measure in _MEASURES])
    shown = [column for column in range(len(_MEASURES)) if any(row[column] is not None for row in rows)]
    headings = ["set", *(_MEASURES[column] for column in shown)]
    if sys.stdout.isatty():
        headings = [heading.replace("_", " ") for heading in headings]
    print_table(
        headings,
        [[name, *(_number(row[column]) for column in shown)] for name, row in zip(sets, rows, strict=True)],
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if value < 10 else f"{value:.1f}"
