"""A comparison as what its page shows."""

from __future__ import annotations

import math

from attnframe.comparison.comparing import Comparison
from attnframe.comparison.page import ComparisonPage, PageDifference, PagePatterns
from attnframe.comparison.rendering import headline
from attnframe.errors import UserError
from attnframe.runs.folder import RunFolder
from attnframe.runs.report import read_report

_MOST_PATTERNS = 6

_NOTES = (
    "A group is all runs with the same settings, data and source files, but for seed, name, logger and what is printed "
    "and recorded; of two runs with one seed the later counts.",
    "An interval holds the true mean of all seeds in 95 of 100 comparisons. It says how well the mean is known, not "
    "how far runs lie apart.",
    "A difference is resampled over seeds and sentences together, two thousand times, corrected for few seeds; its p "
    "is corrected over all differences shown (Holm 1979). No difference shown is not the same as no difference.",
    "Curves are interpolated to points that all runs of a group reach; seconds are those of metrics.csv, validations "
    "included; FLOPs are steps times what a step takes on average.",
)


def page_content(comparison: Comparison, title: str) -> ComparisonPage:
    """Everything for `comparison_html`. Patterns are those of the first run of each group, of a few groups."""
    patterns: list[PagePatterns] = []
    notes = list(_NOTES)
    done = [group for group in comparison.groups if group.runs]
    first = [comparison.reference, *(group for group in done if group is not comparison.reference)]
    for group in first[:_MOST_PATTERNS]:
        try:
            run = read_report(RunFolder(group.first.path)).run
        except UserError as error:
            notes.append(f"The patterns of {group.name} are left out: {error}")
            continue
        if run.sentences:
            patterns.append(PagePatterns(group.name, run))
    if len(first) > _MOST_PATTERNS:
        notes.append(
            f"Patterns are shown of {_MOST_PATTERNS} of {len(first)} groups; attnframe view shows any two runs."
        )
    tables = [*comparison.scores, comparison.cost, *comparison.further, comparison.left_out]
    return ComparisonPage(
        title=title,
        subtitle=headline(comparison),
        warnings=comparison.warnings,
        tables=[table for table in tables if table is not None and table.rows],
        curves=comparison.curves,
        differences=[
            PageDifference(
                first=one.first,
                second=one.second,
                measure=one.measure,
                set=one.set,
                difference=one.found.difference,
                low=one.found.low if math.isfinite(one.found.low) else math.nan,
                high=one.found.high if math.isfinite(one.found.high) else math.nan,
                p=one.found.p,
                p_holm=one.p_holm,
                verdict=one.verdict,
            )
            for one in comparison.differences
        ],
        patterns=patterns,
        notes=notes,
    )
