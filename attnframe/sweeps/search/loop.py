"""The search itself: trials are asked for, run as jobs a batch at a time, and told how they ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from optuna.trial import FrozenTrial, TrialState

from attnframe.errors import UserError
from attnframe.sweeps.search import study as attributes
from attnframe.sweeps.search.assignment import Assignment
from attnframe.sweeps.search.choosers import with_steps_of
from attnframe.sweeps.search.objectives import values_of
from attnframe.sweeps.search.study import Asked, SearchStudy

# Before so many trials have ended their share of failures says nothing.
_FEWEST_TO_JUDGE = 5


@dataclass(frozen=True)
class TrialJob:
    """A run to be made: what it is, so that the same one is not made twice, its folder, and its settings."""

    identity: str
    folder: Path
    settings: Mapping[str, Any]
    handle: Any = None


@dataclass(frozen=True)
class TrialEnd:
    """How a run ended: the marker of its folder, its results if that is DONE, and else the reason."""

    marker: str
    results: Mapping[str, Any] | None
    reason: str


class TrialJobs(Protocol):
    """What runs the trials."""

    def prepare(self, overrides: Sequence[str], *, name: str) -> TrialJob:
        """The run of a command line, called `name` where it is a new one. Raises `UserError` for what cannot be."""

    def run(self, jobs: Sequence[TrialJob]) -> list[TrialEnd]:
        """Make them all, at once if the launcher can; how each ended."""


@dataclass(frozen=True)
class Plan:
    """How far a search goes: `n_trials` in the whole study, `n_jobs` at once; see `SearchSchema`."""

    n_trials: int
    n_jobs: int
    max_failure_rate: float
    pruner: Mapping[str, Any]
    address: str


class Search:
    """Runs the trials that a study still lacks. `told` is called with each trial that has ended."""

    def __init__(
        self, study: SearchStudy, jobs: TrialJobs, plan: Plan, told: Callable[[FrozenTrial], None] = lambda trial: None
    ) -> None:
        self._study, self._jobs, self._plan, self._told = study, jobs, plan, told

    def run(self) -> str:
        """Go on until there are `n_trials`; why the search ended before that, or "".

        Trials that were cut off come first. Raises KeyboardInterrupt when a run was stopped from outside: its trial is
        left as running, and goes on when the search does.
        """
        left = self._study.left_over()
        while True:
            batch, left = left[: self._plan.n_jobs], left[self._plan.n_jobs :]
            while len(batch) < self._plan.n_jobs and not left and self._study.counted < self._plan.n_trials:
                asked = self._study.ask()
                if asked is None:
                    break
                batch.append(asked)
            if not batch:
                return ""
            self._do(batch)
            if problem := self._too_many_failures():
                return problem

    def _do(self, batch: Sequence[Asked]) -> None:
        jobs: dict[str, tuple[Asked, TrialJob]] = {}
        twins: list[tuple[Asked, TrialJob]] = []
        for asked in batch:
            if stopped := self._study.stopped(asked.number):
                # By its worker, before the search was killed.
                self._tell_stopped(asked, stopped)
                continue
            try:
                job = self._prepare(asked)
            except UserError as error:
                self._study.tell_failed(asked.number, str(error))
                self._said(asked)
                continue
            self._study.note(asked.number, **{attributes.JOB: job.identity, attributes.FOLDER: job.folder.name})
            if job.identity in jobs:
                twins.append((asked, job))
            elif not self._repeats(asked, job):
                self._assign(asked, job)
                jobs[job.identity] = asked, job
        ends = self._jobs.run([job for _, job in jobs.values()]) if jobs else []
        have_ended = [self._tell(asked, end) for (asked, _), end in zip(jobs.values(), ends, strict=True)]
        if not all(have_ended):
            raise KeyboardInterrupt
        for asked, job in twins:
            self._repeats(asked, job)

    def _prepare(self, asked: Asked) -> TrialJob:
        space = self._study.space
        name = " ".join([f"trial {asked.number}", *space.chosen(asked.values)])
        return self._jobs.prepare(space.overrides(asked.values), name=name)

    def _assign(self, asked: Asked, job: TrialJob) -> None:
        plan, objectives = self._plan, self._study.objectives
        # Optuna compares running trials by one number only.
        prunes = len(objectives) == 1 and plan.pruner["name"] != "none"
        Assignment(
            storage=plan.address,
            study=self._study.study.study_name,
            number=asked.number,
            id=asked.id,
            planned=plan.n_trials,
            objective=objectives[0].key,
            pruner=with_steps_of(plan.pruner, job.settings["trainer"]) if prunes else None,
        ).write(job.folder)

    def _repeats(self, asked: Asked, job: TrialJob) -> bool:
        """Whether an ended trial was the same job; then this one comes to the same, without a run."""
        earlier = self._study.same_job(asked.number, job.identity)
        if earlier is None or not earlier.state.is_finished():
            return False
        self._study.tell_as(asked.number, earlier)
        self._said(asked)
        return True

    def _tell(self, asked: Asked, end: TrialEnd) -> bool:
        """Whether the run had an end that was its own."""
        if end.marker == "DONE":
            values = values_of(end.results or {}, self._study.objectives)
            if isinstance(values, str):
                self._study.tell_failed(asked.number, values)
            else:
                self._study.tell(asked.number, values)
        elif stopped := self._study.stopped(asked.number):
            self._tell_stopped(asked, stopped)
            return True
        elif end.marker == "INTERRUPTED":
            return False
        else:
            self._study.tell_failed(asked.number, end.reason or "its worker was killed")
        self._said(asked)
        return True

    def _tell_stopped(self, asked: Asked, stopped: Mapping[str, Any]) -> None:
        tell = self._study.tell_pruned if stopped["why"] == "pruned" else self._study.tell_failed
        tell(asked.number, stopped["reason"])
        self._said(asked)

    def _said(self, asked: Asked) -> None:
        self._told(self._study.trials[asked.number])

    def _too_many_failures(self) -> str:
        ended = [trial for trial in self._study.trials if trial.state.is_finished()]
        failed = [trial for trial in ended if trial.state == TrialState.FAIL]
        if len(ended) < _FEWEST_TO_JUDGE or len(failed) <= self._plan.max_failure_rate * len(ended):
            return ""
        return (
            f"{len(failed)} of {len(ended)} trials have failed, more than "
            f"hydra.sweeper.max_failure_rate={self._plan.max_failure_rate}; the last one: "
            f"{failed[-1].user_attrs.get(attributes.REASON, 'for no given reason')}"
        )
