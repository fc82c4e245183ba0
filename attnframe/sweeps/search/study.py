"""The study of a search on Optuna's ask and tell: opened or gone on with, asked for trials, told how they ended."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import check_distribution_compatibility, distribution_to_json, json_to_distribution
from optuna.trial import FrozenTrial, TrialState

from attnframe.errors import UserError
from attnframe.sweeps.search.choosers import make_sampler
from attnframe.sweeps.search.objectives import Objective
from attnframe.sweeps.search.space import SearchSpace, Value
from attnframe.sweeps.search.storage import open_storage

# Attributes of a trial in the study.
CHOSEN = "chosen"
SWEEP = "sweep"
JOB = "job"
FOLDER = "folder"
REPEATS = "repeats"
REASON = "reason"
STOPPED = "stopped"

# What may be another one when a search goes on: it changes no score.
_FREE = ("logger", "name", "sweep", "launcher")


@dataclass(frozen=True)
class Asked:
    """A trial to be run: its number and id in the study, and the values that were chosen for it."""

    number: int
    id: int
    values: Mapping[str, Value]


class SearchStudy:
    """A study for one space and its objectives, on behalf of the sweep in the folder `sweep`.

    Unless that is `alone`, other sweeps may have trials in the study at the same time.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        objectives: Sequence[Objective],
        *,
        sampler: Mapping[str, Any],
        seed: int,
        sweep: Path,
        alone: bool = True,
    ) -> None:
        self.study, self.space, self.objectives = study, space, objectives
        self._sampler, self._seed = sampler, seed
        self._sweep, self._alone = str(sweep), alone

    @property
    def sampler_name(self) -> str:
        """Who chooses the values, by the name in the config."""
        return str(self._sampler["name"])

    @property
    def counted(self) -> int:
        """The trials that have ended or run, whoever runs them."""
        return sum(trial.state != TrialState.WAITING for trial in self.trials)

    @property
    def ended(self) -> int:
        """The trials that have ended, whoever ran them."""
        return sum(trial.state.is_finished() for trial in self.trials)

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials, by number."""
        return self.study.get_trials(deepcopy=False)

    @property
    def best(self) -> list[FrozenTrial]:
        """The best complete trial, if there is one; with several objectives those that no other beats in all."""
        found = sorted(self.study.best_trials, key=lambda trial: trial.number)
        distinct = [trial for trial in found if REPEATS not in trial.user_attrs]
        return distinct[:1] if len(self.objectives) == 1 else distinct

    def left_over(self) -> list[Asked]:
        """Trials of this sweep that a stop or a kill has cut off: they go on as what they are.

        One that was killed before all of its values were chosen is told to have failed.
        """
        found = []
        for trial in self.trials:
            is_ours = self._alone or trial.user_attrs.get(SWEEP) == self._sweep
            if trial.state != TrialState.RUNNING or not is_ours:
                continue
            if CHOSEN in trial.user_attrs:
                values = {key: _value(trial.params[key]) for key in trial.user_attrs[CHOSEN]}
                found.append(Asked(trial.number, trial._trial_id, values))
            else:
                self.tell_failed(trial.number, "killed before it began")
        return found

    def ask(self) -> Asked | None:
        """One more trial; None when every point of a grid has had its own."""
        number = len(self.trials)
        self.study.sampler = make_sampler(self._sampler, seed=self._seed, trial=number)
        # One that waits was left by a process that was killed just here.
        waits = any(trial.state == TrialState.WAITING for trial in self.trials)
        if self._sampler["name"] == "grid" and not waits:
            point = next(self._new_points(), None)
            if point is None:
                return None
            self.study.enqueue_trial(point)
        trial = self.study.ask()
        trial.set_user_attr(SWEEP, self._sweep)
        values = self.space.suggest(trial)
        # Last, for with it the trial is whole.
        trial.set_user_attr(CHOSEN, list(values))
        return Asked(trial.number, trial._trial_id, values)

    def _new_points(self) -> Iterator[dict[str, Value]]:
        had = [self._texts(trial.params) for trial in self.trials if trial.params]
        return (point for point in self.space.grid() if self._texts(point) not in had)

    def _texts(self, values: Mapping[str, Value]) -> dict[str, str]:
        return {p.key: p.text(values[p.key]) for p in self.space.parameters if p.key in values}

    def note(self, number: int, **attributes: Any) -> None:
        """Keep something of a trial that has not ended yet."""
        for name, value in attributes.items():
            self.study._storage.set_trial_user_attr(self._id(number), name, value)

    def stopped(self, number: int) -> Mapping[str, Any] | None:
        """What a worker has written of why it ended the trial, if it did."""
        found: Mapping[str, Any] | None = self._frozen(number).user_attrs.get(STOPPED)
        return found

    def same_job(self, number: int, job: str) -> FrozenTrial | None:
        """An earlier trial of the same job, which came or will come to the same; None where there is none."""
        earlier = (trial for trial in self.trials[:number] if trial.user_attrs.get(JOB) == job)
        return next(earlier, None)

    def tell(self, number: int, values: Sequence[float]) -> None:
        """The trial has come to its end with these scores, one for each objective."""
        self._tell(number, TrialState.COMPLETE, values)

    def tell_pruned(self, number: int, reason: str) -> None:
        """The trial was hopeless; its last score reported is its value."""
        self.note(number, **{REASON: reason})
        self._tell(number, TrialState.PRUNED)

    def tell_failed(self, number: int, reason: str) -> None:
        """The trial has no score."""
        self.note(number, **{REASON: reason})
        self._tell(number, TrialState.FAIL)

    def tell_as(self, number: int, earlier: FrozenTrial) -> None:
        """The trial is an earlier one again, and comes to the same."""
        self.note(number, **{REPEATS: earlier.number})
        reason = earlier.user_attrs.get(REASON, "")
        if earlier.state == TrialState.COMPLETE:
            self.tell(number, earlier.values)
        elif earlier.state == TrialState.PRUNED:
            for step, value in earlier.intermediate_values.items():
                self.study._storage.set_trial_intermediate_value(self._id(number), step, value)
            self.tell_pruned(number, reason)
        else:
            self.tell_failed(number, reason)

    def _tell(self, number: int, state: TrialState, values: Sequence[float] | None = None) -> None:
        # The sampler's own part after a trial, too, is to be the same whether or not the search was stopped before.
        self.study.sampler = make_sampler(self._sampler, seed=self._seed, trial=number)
        self.study.tell(number, values, state=state, skip_if_finished=True)

    def _id(self, number: int) -> int:
        return self._frozen(number)._trial_id

    def _frozen(self, number: int) -> FrozenTrial:
        return self.trials[number]


def open_study(address: str, name: str, space: SearchSpace, objectives: Sequence[Objective]) -> optuna.Study:
    """The study of that name at an address of `storage_address`, new or gone on with.

    Raises `UserError` where one is there whose trials cannot stand beside those of this space and these objectives.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
    storage = open_storage(address)
    directions = [optuna.study.StudyDirection[one.direction.upper()] for one in objectives]
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=None if name in optuna.get_all_study_names(storage) else directions,
        load_if_exists=True,
    )
    before = study.user_attrs.get("search")
    if before is None:
        if study.get_trials(deepcopy=False):
            raise UserError(
                f"the study {name!r} has trials of something else; give hydra.sweeper.study_name another name"
            )
    else:
        _check_same(name, before, _described(space, objectives))
    study.set_user_attr("search", _described(space, objectives))
    return study


def _described(space: SearchSpace, objectives: Sequence[Objective]) -> dict[str, Any]:
    fixed = {key: text for key, text in space.fixed.items() if key.lstrip("+").partition(".")[0] not in _FREE}
    return {
        "objectives": [str(objective) for objective in objectives],
        "space": {p.key: distribution_to_json(p.distribution) for p in space.parameters},
        "conditions": {p.key: str(p.condition) for p in space.parameters if p.condition.allowed},
        "fixed": fixed,
    }


def _check_same(name: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """More trials and wider or narrower intervals are welcome; what would make scores incomparable is not."""
    place = f"the study {name!r} cannot go on:"
    advice = "; take back the change, or give the sweep or hydra.sweeper.study_name another name"
    if before["objectives"] != now["objectives"]:
        raise UserError(
            f"{place} its objective is {', '.join(before['objectives'])}, not {', '.join(now['objectives'])}{advice}"
        )
    for part, what in (("space", "it searches"), ("conditions", "its conditions are on"), ("fixed", "it has set")):
        for key in itertools.chain(before[part].keys() - now[part].keys(), now[part].keys() - before[part].keys()):
            whether = "which is not there any more" if key in before[part] else "which is new"
            word = what if key in before[part] else what.replace("it ", "now it ").replace("its", "now its")
            raise UserError(f"{place} {word} {key}, {whether}{advice}")
    for part in ("conditions", "fixed"):
        for key, text in now[part].items():
            if before[part][key] != text:
                raise UserError(f"{place} {key} was {before[part][key]} and is now {text}{advice}")
    for key, text in now["space"].items():
        try:
            check_distribution_compatibility(json_to_distribution(before["space"][key]), json_to_distribution(text))
        except ValueError as error:
            raise UserError(
                f"{place} {key} was searched over other values or on another scale; the bounds of numbers may change, "
                f"named values and scales may not{advice}"
            ) from error


def _value(value: Any) -> Value:
    assert isinstance(value, str | int | float)
    return value
