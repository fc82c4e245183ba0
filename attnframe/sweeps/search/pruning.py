"""Reporting a run's scores to its study while it trains, and asking whether to go on."""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Mapping
from pathlib import Path

import optuna
from optuna.samplers import RandomSampler

from attnframe.sweeps.search.assignment import Assignment
from attnframe.sweeps.search.choosers import make_pruner
from attnframe.sweeps.search.storage import open_storage
from attnframe.sweeps.search.study import STOPPED
from attnframe.training.pruning import SearchTrial

_log = logging.getLogger(__name__)


def search_trial(folder: Path) -> SearchTrial | None:
    """The part of the run in `folder` in a search; None for a run that has none."""
    assignment = Assignment.read(folder)
    if assignment is None:
        return None
    description = {"study": assignment.study, "trial": assignment.number, "trials": assignment.planned}
    return SearchTrial(description, Reporter(assignment))


class Reporter:
    """Called with the step and the validation's scores: the reason to end the run, or None."""

    def __init__(self, assignment: Assignment) -> None:
        self._assignment = assignment
        self._trial: optuna.Trial | None = None

    def __call__(self, step: int, scores: Mapping[str, float]) -> str | None:
        """Report, once a step however often the run is stopped and goes on.

        What keeps a study from being reached does not end a run: it is logged.
        """
        try:
            return self._advice(step, scores)
        except Exception as error:
            _log.warning("the study %s could not be reached: %s", self._assignment.study, error)
            return None

    def _advice(self, step: int, scores: Mapping[str, float]) -> str | None:
        if math.isnan(scores["val/loss"]):
            # It never gets better: the weights are NaN.
            return self._stop(step, "nan", f"val/loss is nan after step {step}")
        pruner, value = self._assignment.pruner, scores.get(self._assignment.objective)
        if pruner is None or value is None or not math.isfinite(value):
            return None
        trial = self._opened()
        known = trial.study.get_trials(deepcopy=False)[self._assignment.number]
        if known.state.is_finished():
            # The run goes on for another reason than the search.
            return None
        if step not in known.intermediate_values:
            trial.report(value, step)
        if not trial.should_prune():
            return None
        reason = f"pruned by the search after step {step}: {self._assignment.objective} {value:.4g} ({pruner['name']})"
        return self._stop(step, "pruned", reason)

    def _stop(self, step: int, why: str, reason: str) -> str:
        # The search, too, must know why: its process may be killed before it sees the run's folder.
        self._opened().set_user_attr(STOPPED, {"step": step, "why": why, "reason": reason})
        return reason

    def _opened(self) -> optuna.Trial:
        if self._trial is None:
            optuna.logging.set_verbosity(optuna.logging.ERROR)
            warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
            study = optuna.load_study(
                study_name=self._assignment.study,
                storage=open_storage(self._assignment.storage),
                # Nothing is sampled here.
                sampler=RandomSampler(),
                pruner=None if self._assignment.pruner is None else make_pruner(self._assignment.pruner),
            )
            self._trial = optuna.Trial(study, self._assignment.id)
        return self._trial
