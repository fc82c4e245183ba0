"""What a search has found, in words: the best trials as command lines, and how every trial ended."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import optuna
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from attnframe.errors import UserError
from attnframe.sweeps.search.space import Parameter, SearchSpace
from attnframe.sweeps.search.study import FOLDER, REASON, REPEATS, SearchStudy

STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "waiting",
}

# What one run does not have.
_OF_SWEEPS = ("sweep", "launcher")

# Fewer tell nothing of importance.
_FEWEST = 5
# PED-ANOVA's own advice: at least so many trials among the best that are compared with all.
_FEWEST_BEST = 5


def override_line(study: SearchStudy, trial: FrozenTrial, *, without: Sequence[str] = ()) -> str:
    """What to paste after `attnframe train` for the run of a trial; `without` are overrides to leave out."""
    chosen = study.space.chosen(trial.params)
    rest = [
        item
        for item in study.space.overrides(trial.params)
        if item not in chosen and item not in without and item.partition("=")[0] not in _OF_SWEEPS
    ]
    return " ".join(map(shlex.quote, [*chosen, *rest]))


def ranked(study: SearchStudy) -> list[FrozenTrial]:
    """The complete trials that repeat no other, best first; with several objectives by the first one."""
    sign = 1 if study.objectives[0].direction == "minimize" else -1
    complete = [
        trial for trial in study.trials if trial.state == TrialState.COMPLETE and REPEATS not in trial.user_attrs
    ]
    return sorted(complete, key=lambda trial: sign * trial.values[0])


def ending(trial: FrozenTrial) -> str:
    """How a trial ended, with the reason if it has one."""
    words = STATES[trial.state]
    if REPEATS in trial.user_attrs:
        words += f", as trial {trial.user_attrs[REPEATS]} did"
    reason = trial.user_attrs.get(REASON, "")
    # What a worker has written into its run's folder says of itself what it is.
    return f"{words}: {reason.removeprefix('pruned by the search ')}" if reason else words


def scores(study: SearchStudy, trial: FrozenTrial) -> str:
    """The scores of a complete trial; "" for any other."""
    if trial.state != TrialState.COMPLETE:
        return ""
    return ", ".join(f"{one.key} {value:.4g}" for one, value in zip(study.objectives, trial.values, strict=True))


def failures(study: SearchStudy, folder: Path) -> list[str]:
    """A sentence for each trial that has failed, with the file that says more in the sweep's `folder`."""
    found = []
    for trial in study.trials:
        if trial.state == TrialState.FAIL and REPEATS not in trial.user_attrs:
            error = folder / trial.user_attrs.get(FOLDER, "") / "error.txt"
            where = f"; see {os.path.relpath(error)}" if error.exists() else ""
            found.append(f"trial {trial.number} {ending(trial)}{where}")
    return found


def described_space(space: SearchSpace) -> list[list[str]]:
    """For each parameter its key, what it is searched over, and where it exists."""
    return [[p.key, _described(p), str(p.condition) if p.condition.allowed else "always"] for p in space.parameters]


def _described(parameter: Parameter) -> str:
    of = parameter.distribution
    if isinstance(of, CategoricalDistribution):
        return ", ".join(map(str, of.choices))
    step = "" if of.step in (None, 1) else f" in steps of {of.step:g}"
    kind = "whole numbers " if isinstance(of, IntDistribution) else ""
    return f"{kind}{of.low:g} to {of.high:g}{step}{', logarithmic' if of.log else ''}"


def counts(study: SearchStudy) -> str:
    """How many trials ended how."""
    found = [(sum(trial.state == state for trial in study.trials), word) for state, word in STATES.items()]
    return ", ".join(f"{number} {word}" for number, word in found if number)


def importance(study: SearchStudy, index: int) -> Mapping[str, float]:
    """By parameter its share in how good a trial is, by PED-ANOVA; empty where there are too few trials to say.

    Watanabe, Bansal, Hutter 2023, https://arxiv.org/abs/2304.10255: how differently the values of the best trials are
    spread from those of all.
    """
    complete = ranked(study)
    if len(complete) < _FEWEST:
        return {}
    quantile = min(0.5, max(0.1, _FEWEST_BEST / len(complete)))
    try:
        found = optuna.importance.get_param_importances(
            study.study,
            evaluator=optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile),
            target=None if len(study.objectives) == 1 else _to_be_small(study, index),
        )
    except (ValueError, RuntimeError) as error:
        raise UserError(f"importance cannot be computed: {error}") from error
    return {key: value for key, value in found.items() if value == value}


def _to_be_small(study: SearchStudy, index: int) -> Callable[[FrozenTrial], float]:
    sign = 1 if study.objectives[index].direction == "minimize" else -1
    return lambda trial: float(sign * trial.values[index])
