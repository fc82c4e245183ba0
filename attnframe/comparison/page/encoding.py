"""The data of a comparison's page: curves and differences as JSON, patterns as the pattern page has them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

from attnframe.comparison.page.content import ComparisonPage, PageCurve, PageDifference, PagePatterns
from attnframe.patterns.page.document import Json
from attnframe.patterns.page.encoding import Maps, evenly, number, run_data, table_data

# More than a screen has room for; a curve of more is thinned out.
MOST_POINTS: Final = 400


def all_sources(page: ComparisonPage) -> list[str]:
    """The source of every sentence that any group has patterns of, each once."""
    return list(
        dict.fromkeys(sentence.source for patterns in page.patterns for sentence in patterns.run.sentences),
    )


def comparison_data(page: ComparisonPage, max_sentences: int) -> Json:
    """Everything that the page reads, with the patterns of at most the first `max_sentences` sentences."""
    maps = Maps()
    recorded = all_sources(page)
    kept = set(recorded[:max_sentences])
    return {
        "title": page.title,
        "subtitle": page.subtitle,
        "warnings": list(page.warnings),
        "notes": list(page.notes),
        "groups": page.groups,
        "tables": [table_data(table) for table in page.tables],
        "curves": [_curve(curve) for curve in page.curves],
        "differences": [_difference(difference) for difference in page.differences],
        "patterns": [_patterns(patterns, kept, maps) for patterns in page.patterns],
        "sentences": {"shown": len(kept), "recorded": len(recorded)},
        "arrays": maps.packed(),
    }


def _curve(curve: PageCurve) -> Json:
    places = evenly(len(curve.x), MOST_POINTS)

    def kept(values: Sequence[float] | None) -> list[float | None] | None:
        return None if values is None else [number(values[place]) for place in places]

    return {
        "group": curve.group,
        "metric": curve.metric,
        "axis": curve.axis,
        "x": [int(curve.x[place]) for place in places] if curve.axis == "step" else kept(curve.x),
        "mean": kept(curve.mean),
        "low": kept(curve.low),
        "high": kept(curve.high),
        "recorded": len(curve.x),
    }


def _difference(one: PageDifference) -> Json:
    numbers = {name: number(getattr(one, name)) for name in ("difference", "low", "high", "p", "p_holm")}
    return {
        "first": one.first,
        "second": one.second,
        "measure": one.measure,
        "set": one.set,
        **numbers,
        "verdict": one.verdict,
    }


def _patterns(patterns: PagePatterns, kept: set[str], maps: Maps) -> Json:
    """The run with its last maps only, and without what the other parts of the page show better."""
    run = patterns.run
    bare = dataclasses.replace(
        run,
        sentences=[sentence for sentence in run.sentences if sentence.source in kept],
        pattern_steps=run.shown_steps,
        traces={},
        head_traces={},
        tables=(),
        importance=None,
    )
    last = len(run.shown_steps) - 1
    return {"group": patterns.group, "run": run_data(bare, [last] if last >= 0 else [], maps)}
