"""Jobs that compute a function of their overrides in the place of a training."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attnframe.errors import UserError
from attnframe.sweeps.search.assignment import Assignment
from attnframe.sweeps.search.loop import Plan, Search, TrialEnd, TrialJob
from attnframe.sweeps.search.objectives import read_objectives
from attnframe.sweeps.search.pruning import Reporter
from attnframe.sweeps.search.space import SearchSpace
from attnframe.sweeps.search.space_reading import read_space
from attnframe.sweeps.search.storage import storage_address
from attnframe.sweeps.search.study import SearchStudy, open_study

TRAINER = {"val_check_interval": 10, "accumulate_grad_batches": 1, "max_steps": 40}
SAMPLER = {"name": "tpe", "startup_trials": None, "population_size": None}
PRUNER = {
    "name": "none",
    "startup_trials": 2,
    "warmup_steps": 0,
    "min_steps": None,
    "max_steps": None,
    "reduction_factor": 2,
}

ARGUMENTS = ("lr=tag(log,interval(1e-4,1))", "variant=plain,ranked", "rank=range(1,6)", "seed=7")
SPACE = read_space(ARGUMENTS, conditions_of={"rank": "variant=ranked"})

Score = Callable[[Mapping[str, str]], Mapping[str, Any]]


def bowl(values: Mapping[str, str]) -> dict[str, Any]:
    """Least at lr=0.01, variant=ranked, rank=4."""
    rank = abs(int(values["rank"]) - 4) if "rank" in values else 7
    return {"val/loss": 1 + (math.log10(float(values["lr"])) + 2) ** 2 + rank, "parameters": 10 - rank}


class Killed(BaseException):
    """In the place of a SIGKILL: nothing may catch it."""


class StubJobs:
    """Runs of four validations each, at which the loss falls to what `score` says of the overrides.

    During the first run with a number (from 0) of at least `killed_at` that validates twice, the process ends.
    """

    def __init__(self, folder: Path, score: Score, *, killed_at: int | None = None) -> None:
        self.folder, self.score, self.killed_at = folder, score, killed_at
        self.runs: list[dict[str, str]] = []
        self.batches: list[int] = []

    def prepare(self, overrides: Sequence[str], *, name: str) -> TrialJob:
        values = dict(item.split("=", 1) for item in overrides)
        if "refused" in values.values():
            raise UserError("this value is refused")
        return TrialJob(" ".join(sorted(overrides)), self.folder / "_".join(overrides), {"trainer": TRAINER}, values)

    def run(self, jobs: Sequence[TrialJob]) -> list[TrialEnd]:
        self.batches.append(len(jobs))
        return [self._run(job) for job in jobs]

    def _run(self, job: TrialJob) -> TrialEnd:
        number = len(self.runs)
        self.runs.append(dict(job.handle))
        results = self.score(job.handle)
        if "error" in results:
            return TrialEnd("FAILED", None, results["error"])
        assignment = Assignment.read(job.folder)
        assert assignment is not None
        report = Reporter(assignment)
        for step in (10, 20, 30, 40):
            if self.killed_at is not None and number >= self.killed_at and step == 30:
                raise Killed
            scores = {"val/loss": 0.0, **{key: value * (1 + 1 / step) for key, value in results.items()}}
            if reason := report(step, scores):
                return TrialEnd("INTERRUPTED", None, reason)
        return TrialEnd("DONE", {key: None if value != value else value for key, value in results.items()}, "")


def search(
    folder: Path,
    space: SearchSpace,
    score: Score,
    *,
    n_trials: int,
    n_jobs: int = 1,
    objective: Any = "val/loss",
    direction: Any = None,
    sampler: str = "random",
    pruner: str = "none",
    storage: str | None = None,
    seed: int = 3,
    killed_at: int | None = None,
    max_failure_rate: float = 1.0,
) -> tuple[SearchStudy, StubJobs, str]:
    """A search with stub jobs; the study, the jobs, and why it ended early. What it is killed by is swallowed."""
    objectives = read_objectives(objective, direction)
    address = storage_address(storage, folder)
    study = SearchStudy(
        open_study(address, "study", space, objectives),
        space,
        objectives,
        sampler={**SAMPLER, "name": sampler},
        seed=seed,
        sweep=folder,
    )
    jobs = StubJobs(folder, score, killed_at=killed_at)
    plan = Plan(n_trials, n_jobs, max_failure_rate, {**PRUNER, "name": pruner}, address)
    try:
        problem = Search(study, jobs, plan).run()
    except Killed:
        problem = "killed"
    return study, jobs, problem
