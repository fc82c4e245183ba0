"""What a search prints: its plan, each trial as it ends, and what was found."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnframe.cli.output import print_table, write

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from attnframe.sweeps.search.loop import Plan
    from attnframe.sweeps.search.study import SearchStudy
    from attnframe.sweeps.sweep_folder import SweepFolder

_MOST_ROWS = 10


def print_search(folder: SweepFolder, study: SearchStudy, plan: Plan, place: str) -> None:
    """What is searched, how, how much of it is left, and where: `place` says where its jobs run."""
    from attnframe.sweeps.search.outcome import described_space

    objectives = ", ".join(map(str, study.objectives))
    left = max(0, plan.n_trials - study.ended)
    lines = [
        f"sweep folder: {os.path.relpath(folder.path)}",
        f"study: {study.study.study_name}, {objectives}, by {study.sampler_name}",
        f"{plan.n_trials} trials: {study.ended} have ended, {left} to come, {plan.n_jobs} at a time, {place}",
        _pruning(study, plan),
    ]
    write("\n".join(lines) + "\n")
    print_table(["searched", "over", "where"], described_space(study.space))
    for parameter in study.space.never:
        print(f"{parameter.key} is left out: it exists only where {parameter.condition}", file=sys.stderr)


def _pruning(study: SearchStudy, plan: Plan) -> str:
    if plan.pruner["name"] == "none":
        return "no trial is pruned"
    if len(study.objectives) > 1:
        return "no trial is pruned: there are several objectives, and pruning compares by one"
    return f"hopeless trials are pruned ({plan.pruner['name']})"


def print_trial(study: SearchStudy, trial: FrozenTrial) -> None:
    """A line for a trial that has ended."""
    from attnframe.sweeps.search.outcome import ending, scores

    words = " ".join(study.space.chosen(trial.params))
    told = ", ".join(filter(None, [ending(trial), scores(study, trial)]))
    best = ", best so far" if trial in study.best and len(study.objectives) == 1 else ""
    write(f"trial {trial.number}: {words}: {told}{best}\n")


def print_found(folder: SweepFolder, study: SearchStudy, lines: Sequence[str]) -> None:
    """The best trials as a table, what has failed, and the very best as what to paste after `attnframe train`."""
    from attnframe.sweeps.search.outcome import counts, failures, ranked
    from attnframe.sweeps.search.report import REPORT_FILE

    write(f"{counts(study)}\n")
    rows = [
        [str(trial.number), *(f"{value:.4g}" for value in trial.values), " ".join(study.space.chosen(trial.params))]
        for trial in (ranked(study)[:_MOST_ROWS] if len(study.objectives) == 1 else study.best)
    ]
    if rows:
        print_table(["trial", *(objective.key for objective in study.objectives), "chosen"], rows)
    for sentence in failures(study, folder.path):
        print(f"attnframe train: {sentence}", file=sys.stderr)
    for line in lines:
        write(f"best: {line}\n")
    if (folder.path / REPORT_FILE).exists():
        write(f"report: {os.path.relpath(folder.path / REPORT_FILE)}\n")
