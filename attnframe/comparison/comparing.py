"""From run folders to everything that is said of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnframe.comparison.corpus_scores import RESAMPLED
from attnframe.comparison.curves import learning_curves
from attnframe.comparison.differences import GroupDifference, group_differences
from attnframe.comparison.fairness import Caveat, caveats
from attnframe.comparison.grouping import Group, find_group, group_runs
from attnframe.comparison.page import PageCurve
from attnframe.comparison.run_records import RunRecord
from attnframe.comparison.tables import (
    MEASURES,
    Number,
    all_numbers,
    class_tables,
    cost_table,
    difference_table,
    left_out_table,
    score_tables,
    settings_table,
    test_sets,
)
from attnframe.errors import UserError, did_you_mean
from attnframe.patterns.page import PageTable

DIFFERENCED = ("exact_match", "bleu")
"""The measures whose differences are drawn where nobody chooses: every further one costs all others power."""

_BY_CLASS = ("exact_match", "aer")


@dataclass(frozen=True)
class Comparison:
    """Groups of runs side by side. `scores` are the tables of scores and `further` those for who looks closer.

    `problems` are sentences on what could not be read.
    """

    groups: tuple[Group, ...]
    reference: Group
    scores: tuple[PageTable, ...]
    cost: PageTable
    further: tuple[PageTable, ...]
    left_out: PageTable | None
    numbers: tuple[Number, ...]
    differences: tuple[GroupDifference, ...]
    curves: tuple[PageCurve, ...]
    caveats: tuple[Caveat, ...]
    problems: tuple[str, ...]

    @property
    def difference_table(self) -> PageTable | None:
        """None where no two groups can be compared."""
        return difference_table(self.differences) if self.differences else None

    @property
    def warnings(self) -> list[str]:
        """The caveats, and what could not be read."""
        return [*(caveat.sentence for caveat in self.caveats), *self.problems]

    @property
    def runs(self) -> int:
        """How many runs are counted."""
        return sum(len(group.runs) for group in self.groups)


def compare(
    runs: Sequence[RunRecord],
    *,
    measures: Sequence[str] | None = None,
    sets: Sequence[str] | None = None,
    reference: str | None = None,
    all_pairs: bool = False,
) -> Comparison:
    """`runs` in groups of equal settings, with every group compared with the `reference`, or with every other.

    `measures` and `sets` are those to show; differences are drawn in the same, of `DIFFERENCED` where no measure is
    chosen. Raises `UserError` where no run is done, and for a measure, set or reference that no run has.
    """
    groups = group_runs(runs)
    done = [group for group in groups if group.runs]
    if not done:
        reasons = [f"{run.path}: {run.unfinished}" for run in runs if run.unfinished]
        raise UserError(f"none of the {len(runs)} runs is done, so there is nothing to compare; {reasons[0]}")
    known_sets = test_sets(done)
    chosen_sets = sets is not None
    sets = known_sets if sets is None else _checked("--set", sets, known_sets)
    known_measures = _measures(done)
    shown = [measure for measure in MEASURES if measure in known_measures]
    differenced: Sequence[str] = DIFFERENCED
    if measures is not None:
        shown = differenced = _checked("--metric", measures, known_measures)
    chosen = find_group(groups, reference)
    if not chosen.runs:
        raise UserError(f"--reference {chosen.name}: no run of this group is done")
    if all_pairs:
        pairs = [(second, first) for place, first in enumerate(done) for second in done[place + 1 :]]
    else:
        pairs = [(group, chosen) for group in done if group is not chosen]
    problems: list[str] = []
    differences = group_differences(pairs, [measure for measure in differenced if measure in RESAMPLED], sets, problems)
    # All classes of all sets are more than anybody reads who has not asked for them.
    tables = class_tables(
        done, [measure for measure in shown if measure in _BY_CLASS], sets if chosen_sets else sets[:1]
    )
    return Comparison(
        groups=tuple(groups),
        reference=chosen,
        scores=tuple(score_tables(done, shown, sets)),
        cost=cost_table(done),
        further=(*([settings_table(groups)] if len(groups) > 1 else []), *tables),
        left_out=left_out_table(groups, [run for run in runs if not run.manifest]),
        numbers=tuple(all_numbers(done, shown, sets)),
        differences=tuple(differences),
        curves=tuple(learning_curves(done)),
        caveats=tuple(caveats(groups, pairs)),
        problems=tuple(problems),
    )


def _measures(groups: Sequence[Group]) -> list[str]:
    """Every measure of a test set in any run's results, those that are shown by default first."""
    sets = {f"test/{name}" for name in test_sets(groups)}
    found = dict.fromkeys(MEASURES, False)
    for group in groups:
        for run in group.runs:
            for key, value in run.results.items():
                start, _, measure = key.rpartition("/")
                if (start == "test" or start in sets) and isinstance(value, int | float):
                    found[measure] = True
    return [measure for measure, there in found.items() if there]


def _checked(flag: str, chosen: Sequence[str], known: Sequence[str]) -> list[str]:
    for name in chosen:
        if name not in known:
            raise UserError(f"{flag} {name}: no run has it; {did_you_mean(name, known)}")
    return list(dict.fromkeys(chosen))
