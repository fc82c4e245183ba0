"""The differences between pairs of groups, and what may be claimed of them."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from attnframe.comparison.bootstrap import Difference, Resampling, Score, difference
from attnframe.comparison.corpus_scores import LOWER_IS_BETTER
from attnframe.comparison.grouping import Group
from attnframe.comparison.multiple_testing import holm
from attnframe.errors import UserError
from attnframe.runs.sentence_statistics import SentenceStatistics, read_sentence_statistics

SIGNIFICANT = 0.05
"""Below it an adjusted p-value is called a difference."""

NOT_TESTED = "not tested: one run says nothing of other seeds; the interval is that of these very runs"
NONE_SHOWN = "no difference shown"
BETTER, WORSE = "the first is better", "the first is worse"

Pair = tuple[Group, Group]
"""The first is compared with the second."""


@dataclass(frozen=True)
class GroupDifference:
    """How far `first` is from `second` in `measure` on the test set `set`.

    `p_holm` is `found.p` after Holm's correction over all differences of the comparison, None where nothing is claimed.
    """

    first: str
    second: str
    measure: str
    set: str
    found: Difference
    p_holm: float | None

    @property
    def verdict(self) -> str:
        """In words what may be said of the first group, or why nothing."""
        if self.p_holm is None:
            return NOT_TESTED
        if self.p_holm >= SIGNIFICANT:
            return NONE_SHOWN
        return BETTER if (self.found.difference < 0) == (self.measure in LOWER_IS_BETTER) else WORSE


def group_differences(
    pairs: Sequence[Pair], measures: Sequence[str], sets: Sequence[str], problems: list[str]
) -> list[GroupDifference]:
    """The differences of every pair with the same data, by pair, then set, then measure.

    Runs are paired by the ids of their sentences, and scored on those that all of them have. What cannot be read is
    said in `problems`.
    """
    pairs = [(first, second) for first, second in pairs if first.runs and second.runs]
    pairs = [(first, second) for first, second in pairs if first.data_hash == second.data_hash]
    scores: dict[tuple[str, str, str], list[Score]] = {}
    for data in dict.fromkeys(first.data_hash for first, _ in pairs):
        groups = {id(group): group for pair in pairs for group in pair if group.data_hash == data}
        scores |= _scores(list(groups.values()), measures, sets, problems)
    found = []
    for first, second in pairs:
        for name in sets:
            for measure in measures:
                both = [scores.get((group.name, name, measure), []) for group in (first, second)]
                if not all(both):
                    continue
                if not all(np.isfinite(score).all() for scores_of_group in both for score in scores_of_group):
                    problems.append(f"{measure} on {name} of {first.name} or {second.name} is no finite number.")
                    continue
                seed = _number(first.name, second.name, name, measure)
                found.append((first.name, second.name, measure, name, difference(both[0], both[1], seed=seed)))
    tested = [index for index, row in enumerate(found) if row[-1].p is not None]
    adjusted = dict(zip(tested, holm([p for *_, one in found if (p := one.p) is not None]), strict=True))
    return [GroupDifference(*row, adjusted.get(index)) for index, row in enumerate(found)]


def _scores(
    groups: Sequence[Group], measures: Sequence[str], sets: Sequence[str], problems: list[str]
) -> dict[tuple[str, str, str], list[Score]]:
    """By group, set and measure the resampled scores of those runs that have the statistics."""
    scores: dict[tuple[str, str, str], list[Score]] = {}
    damaged: dict[Path, str] = {}
    # Set by set, for the statistics of many runs are a lot to hold.
    for name in sets:
        having = _statistics(groups, measures, name, damaged)
        if not having or not (common := _common_ids([statistics for _, statistics in having])):
            continue
        resampling = Resampling(len(common), seed=_number(name))
        for group, statistics in having:
            counts = statistics.counts
            if statistics.ids != common:
                place = {key: row for row, key in enumerate(statistics.ids)}
                rows = [place[key] for key in common]
                counts = {measure: of_sentences[rows] for measure, of_sentences in counts.items()}
            for measure, score in resampling.scores(counts).items():
                scores.setdefault((group.name, name, measure), []).append(score)
    problems += [f"{path.name} is left out of the differences: {error}" for path, error in damaged.items()]
    return scores


def _statistics(
    groups: Sequence[Group], measures: Sequence[str], name: str, damaged: dict[Path, str]
) -> list[tuple[Group, SentenceStatistics]]:
    """Those of one set, of every run that has them; what cannot be read goes to `damaged`."""
    having: list[tuple[Group, SentenceStatistics]] = []
    for group in groups:
        for run in group.runs:
            try:
                found = read_sentence_statistics(run.path, measures, [name]).get(name)
            except UserError as error:
                damaged[run.path] = str(error)
                continue
            if found is not None:
                if having and found.ids == having[0][1].ids:
                    # One list of ids for all of them.
                    found = replace(found, ids=having[0][1].ids)
                having.append((group, found))
    return having


def _common_ids(runs: Sequence[SentenceStatistics]) -> tuple[str, ...]:
    """The sentences that all runs have, in the order of the first one."""
    first = runs[0].ids
    if all(run.ids == first for run in runs):
        return first
    shared = set(first).intersection(*(run.ids for run in runs))
    return tuple(key for key in first if key in shared)


def _number(*names: str) -> int:
    """A seed that is the same every time, and another one for other names."""
    return zlib.crc32("\0".join(names).encode())
