"""The tables of a comparison: groups by what they scored, what they cost, and where they differ."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from attnframe.comparison.cells import estimate_text, p_text, signed
from attnframe.comparison.differences import GroupDifference
from attnframe.comparison.grouping import Group, differing_settings
from attnframe.comparison.intervals import Estimate, estimate
from attnframe.comparison.run_records import RunRecord
from attnframe.options import override_value
from attnframe.patterns.page import PageTable

MEASURES = ("exact_match", "bleu", "chrf", "loss", "aer")
"""The measures that are shown where nobody chooses."""

_MEBIBYTE = 1024**2
_MOST_COLUMNS = 6
_STEPS_TO_95 = "steps to 0.95"
# Column: key of results.json, and what to divide by.
_COSTS = {
    "parameters": ("parameters", 1),
    "FLOPs / token": ("train/flops_per_token", 1),
    "tokens / s": ("train/tokens_per_second", 1),
    "peak MiB": ("train/peak_memory_bytes", _MEBIBYTE),
    "seconds": ("train/seconds", 1),
    "steps": ("train/steps", 1),
    _STEPS_TO_95: ("train/steps_to_95", 1),
}

_MEANING = (
    "Mean over the runs of a group, ± half of its 95 % interval over seeds (Student's t; none for one run). "
    "exact_match and aer go from 0 to 1, bleu and chrf from 0 to 100, loss is in nats per target token; loss and aer "
    "are better when lower."
)
_COST_MEANING = (
    "FLOPs of training for each target token, forward and backward, matrix products only; target tokens per second and "
    "seconds of training without validations; peak memory of the process (CPU) or allocated on the GPU."
)
_STEPS_MEANING = f" {_STEPS_TO_95}: the step of the first validation with an exact match of 0.95."
_DIFFERENCE_MEANING = (
    "The first group minus the second on the same sentences, with its 95 % interval over seeds and sentences together; "
    "p after Holm's correction over all differences in this table. The intervals are each for itself, so that one may "
    "leave zero out where the verdict, which is over all of them, shows no difference."
)


@dataclass(frozen=True)
class Number:
    """A group's `estimate` of `measure` on a test set, or of a cost, where `set` is empty."""

    group: str
    set: str
    measure: str
    estimate: Estimate


def test_sets(groups: Sequence[Group]) -> list[str]:
    """The test sets that any run was scored on, `test` first."""
    found: dict[str, None] = {}
    for group in groups:
        for run in group.runs:
            for key in run.results:
                if match := re.fullmatch(r"test/(?:([^/]+)/)?exact_match", key):
                    found[match[1] or "test"] = None
    return list(found)


def score_key(name: str, measure: str) -> str:
    """The key of results.json."""
    return f"test/{measure}" if name == "test" else f"test/{name}/{measure}"


def all_numbers(groups: Sequence[Group], measures: Sequence[str], sets: Sequence[str]) -> list[Number]:
    """Every number of the tables of scores and cost."""
    numbers = []
    for group in groups:
        for name in sets:
            for measure in measures:
                if (found := estimate(group.numbers(score_key(name, measure)))) is not None:
                    numbers.append(Number(group.name, name, measure, found))
        for column in _COSTS:
            if (found := _cost(group, column)) is not None:
                numbers.append(Number(group.name, "", column, found))
    return numbers


def score_tables(groups: Sequence[Group], measures: Sequence[str], sets: Sequence[str]) -> list[PageTable]:
    """Scores on the first of the sets, and on the others where there are some."""
    groups = [group for group in groups if group.runs]
    first, others = sets[0], sets[1:]
    rows = [[group.name, len(group.runs), *_scores(group, first, measures)] for group in groups]
    tables = [_without_empty(PageTable(f"Scores on {first}", ["group", "runs", *measures], rows, _MEANING), 2)]
    if others:
        rows = [[name, group.name, *_scores(group, name, measures)] for name in others for group in groups]
        tables.append(_without_empty(PageTable("Further test sets", ["set", "group", *measures], rows), 2))
    return tables


def cost_table(groups: Sequence[Group]) -> PageTable:
    """What each group takes to train."""
    rows = [
        [group.name, *(estimate_text(_cost(group, column), column) for column in _COSTS)]
        for group in groups
        if group.runs
    ]
    table = _without_empty(PageTable("Cost", ["group", *_COSTS], rows, _COST_MEANING), 1)
    return replace(table, caption=_COST_MEANING + _STEPS_MEANING) if _STEPS_TO_95 in table.columns else table


def class_tables(groups: Sequence[Group], measures: Sequence[str], sets: Sequence[str]) -> list[PageTable]:
    """Scores by length and by phenomenon, on each set that has more than one of them."""
    groups = [group for group in groups if group.runs]
    keys = list(dict.fromkeys(key for group in groups for run in group.runs for key in run.results))
    tables = []
    for name in sets:
        for kind, title in (("length", "length in source words"), ("phenomenon", "phenomenon")):
            prefix = score_key(name, f"{kind}/")
            classes = {key.removeprefix(prefix).partition("/")[0]: None for key in keys if key.startswith(prefix)}
            for measure in measures:
                cells = {
                    one: [
                        estimate_text(estimate(group.numbers(f"{prefix}{one}/{measure}")), measure) for group in groups
                    ]
                    for one in sorted(classes, key=_first_number)
                }
                cells = {one: row for one, row in cells.items() if any(cell is not None for cell in row)}
                if len(cells) > 1:
                    tables.append(_upright(f"{measure} by {title}, {name}", kind, cells, groups))
    return tables


def _upright(
    title: str, kind: str, cells: Mapping[str, Sequence[str | None]], groups: Sequence[Group], caption: str = ""
) -> PageTable:
    """A table of classes and groups: the groups are its columns, or its rows where they are many."""
    names = [group.name for group in groups]
    if len(groups) <= max(_MOST_COLUMNS, len(cells)):
        return PageTable(title, [kind, *names], [[one, *row] for one, row in cells.items()], caption)
    rows = [[name, *column] for name, column in zip(names, zip(*cells.values(), strict=True), strict=True)]
    return PageTable(title, ["group", *cells], rows, caption)


def difference_table(differences: Sequence[GroupDifference]) -> PageTable:
    """The differences with their intervals."""
    rows = [
        [
            one.first,
            one.second,
            one.set,
            one.measure,
            signed(one.found.difference, one.measure),
            f"{signed(one.found.low, one.measure)} to {signed(one.found.high, one.measure)}",
            p_text(one.p_holm),
            one.verdict,
        ]
        for one in differences
    ]
    columns = ["first", "second", "set", "measure", "difference", "95 % interval", "p (Holm)", "verdict"]
    return PageTable("Differences", columns, rows, _DIFFERENCE_MEANING)


def settings_table(groups: Sequence[Group]) -> PageTable:
    """The settings that are not the same in all groups."""
    cells = {
        key: [override_value(group.settings[key]) if key in group.settings else None for group in groups]
        for key in differing_settings(groups)
    }
    widths = [_matched_width(group) for group in groups]
    if any(widths):
        cells["d_ff as matched"] = widths
    caption = "Every other setting is the same, but for seed, name, logger, and what is printed and recorded."
    return _upright("What differs", "setting", cells, groups, caption)


def _matched_width(group: Group) -> str | None:
    matched = group.first.settings.get("matched")
    if not isinstance(matched, Mapping):
        return None
    return f"{matched['d_ff_before']} -> {matched['d_ff']} by {matched['by']}"


def left_out_table(groups: Sequence[Group], ungrouped: Sequence[RunRecord]) -> PageTable | None:
    """Every run that is not counted, and why."""
    rows = [[str(run.path), group.name, _sentence(reason)] for group in groups for run, reason in group.left_out] + [
        [str(run.path), None, _sentence(run.unfinished)] for run in ungrouped
    ]
    return PageTable("Runs that are not counted", ["run", "group", "why"], rows) if rows else None


def _scores(group: Group, name: str, measures: Sequence[str]) -> list[str | None]:
    return [estimate_text(estimate(group.numbers(score_key(name, measure))), measure) for measure in measures]


def _cost(group: Group, column: str) -> Estimate | None:
    key, unit = _COSTS[column]
    return estimate([None if value is None else value / unit for value in group.numbers(key)])


def _without_empty(table: PageTable, fixed: int) -> PageTable:
    """Without the columns, behind the first `fixed` ones, that have nothing in them."""
    kept = [
        place
        for place in range(len(table.columns))
        if place < fixed or any(row[place] is not None for row in table.rows)
    ]
    rows = [[row[place] for place in kept] for row in table.rows]
    return PageTable(table.title, [table.columns[place] for place in kept], rows, table.caption)


def _first_number(name: str) -> tuple[int, str]:
    match = re.match(r"\d+", name)
    return (int(match[0]) if match else -1, name)


def _sentence(reason: str) -> str:
    return " ".join(reason.split())
