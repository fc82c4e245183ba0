"""A search from a command line: its space, its study, its trials as jobs of a sweep, its report."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial

from attnframe.errors import UserError
from attnframe.sweeps.grid_sweeper import save_config
from attnframe.sweeps.job import Job
from attnframe.sweeps.jobs import SweepJobs
from attnframe.sweeps.search import choosers, outcome
from attnframe.sweeps.search.loop import Plan, Search, TrialEnd, TrialJob
from attnframe.sweeps.search.objectives import read_objectives
from attnframe.sweeps.search.report import write_search_report
from attnframe.sweeps.search.space import SearchSpace
from attnframe.sweeps.search.space_reading import read_space
from attnframe.sweeps.search.storage import storage_address
from attnframe.sweeps.search.study import SearchStudy, open_study
from attnframe.sweeps.sweep_folder import SweepFolder
from attnframe.sweeps.task import Task

_log = logging.getLogger(__name__)

RECIPES = "hparams_search"
_SWEEPER = "hydra/sweeper"

# So many command lines are tried before the first trial.
_MOST_PROBES = 60

_LEAST = {"n_trials": 1, "n_jobs": 1, "retries": 0, "seed": 0}


class SearchTask(Task, Protocol):
    """What a search calls besides what every sweep does."""

    def show_search(self, folder: SweepFolder, study: SearchStudy, plan: Plan, config: DictConfig) -> None:
        """Say what will be searched, how, and where."""

    def watching_trials(self, jobs: Sequence[Job]) -> AbstractContextManager[object]:
        """Show how far the trials under way are while the body runs."""

    def show_trial(self, study: SearchStudy, trial: FrozenTrial) -> None:
        """Say how one trial has ended."""

    def show_found(self, folder: SweepFolder, study: SearchStudy, lines: Sequence[str], problem: str) -> None:
        """Say what was found: `lines` are the best trials as overrides, `problem` why the search ended early."""


class SweepTrials:
    """The trials of a search as jobs of a sweep."""

    def __init__(self, jobs: SweepJobs, task: SearchTask) -> None:
        self._jobs, self._task = jobs, task

    def prepare(self, overrides: Sequence[str], *, name: str = "a trial") -> TrialJob:
        """The run of a command line, called `name` where it is a new one. Raises `UserError` for what cannot be."""
        try:
            job = self._jobs.prepare(overrides, self._task, name=name)
        except (HydraException, OmegaConfBaseException) as error:
            raise UserError(f"{' '.join(overrides)}: {str(error).partition(chr(10))[0]}") from error
        if job.identity is None or job.folder is None:
            raise UserError(job.refused)
        return TrialJob(job.identity.key, job.folder, job.settings, job)

    def run(self, jobs: Sequence[TrialJob]) -> list[TrialEnd]:
        """Make them all through the launcher; how each ended."""
        handles: list[Job] = [job.handle for job in jobs]
        with self._task.watching_trials(handles):
            ended = self._jobs.run([self._jobs.planned(job) for job in handles])
        return [TrialEnd(end.marker, end.results, end.reason) for end in ended]


def conduct(
    context: HydraContext,
    config: DictConfig,
    launcher: Launcher,
    task: SearchTask,
    arguments: Sequence[str],
    options: Mapping[str, Any],
) -> None:
    """Run what is left of the search; `options` are those of `SearchSchema`. Raises `UserError`."""
    for key, least in _LEAST.items():
        if options[key] < least:
            raise UserError(f"hydra.sweeper.{key}={options[key]} must be at least {least}")
    if not 0 <= options["max_failure_rate"] <= 1:
        raise UserError(f"hydra.sweeper.max_failure_rate={options['max_failure_rate']} must lie between 0 and 1")
    objectives = read_objectives(options["objective"], options["direction"])
    space = read_space(
        arguments,
        params=options["params"],
        conditions_of=options["conditions"],
        config_loader=context.config_loader,
    )
    choosers.check_sampler(options["sampler"], space, len(objectives))
    choosers.check_pruner(options["pruner"])
    jobs = SweepJobs(context, config, launcher, retries=options["retries"])
    trials = SweepTrials(jobs, task)
    _try_out(context, config, space, trials)
    save_config(config, jobs.folder.path)
    address = storage_address(options["storage"], jobs.folder.path)
    study = SearchStudy(
        open_study(address, options["study_name"] or jobs.folder.path.name, space, objectives),
        space,
        objectives,
        sampler=options["sampler"],
        seed=options["seed"],
        sweep=jobs.folder.path,
        alone=options["storage"] is None,
    )
    plan = Plan(options["n_trials"], options["n_jobs"], options["max_failure_rate"], options["pruner"], address)
    task.show_search(jobs.folder, study, plan, config)
    given = config.hydra.overrides.hydra
    sweeper = [] if any(item.startswith(f"{_SWEEPER}=") for item in given) else [f"{_SWEEPER}=attnframe_optuna"]
    problem = ""
    try:
        problem = Search(study, trials, plan, lambda trial: task.show_trial(study, trial)).run()
    finally:
        # Whatever ended the search, what it has found so far is kept and said.
        lines = [_line(study, trials, trial, sweeper) for trial in study.best]
        try:
            write_search_report(study, jobs.folder.path, lines)
        except (OSError, ValueError) as error:
            _log.warning("search.html could not be written: %s", error)
        task.show_found(jobs.folder, study, lines, problem)


def _try_out(context: HydraContext, config: DictConfig, space: SearchSpace, trials: SweepTrials) -> None:
    """Compose command lines that have every named value once: what cannot be is refused before the first trial."""
    errors: list[tuple[str, list[str], Exception]] = []
    composed: list[list[str]] = []
    for key, values in itertools.islice(space.probes(), _MOST_PROBES):
        overrides = space.overrides(values)
        try:
            context.config_loader.load_sweep_config(config, overrides)
            composed.append(overrides)
        except (HydraException, OmegaConfBaseException) as error:
            errors.append((key, overrides, error))
    for key, overrides, problem in errors:
        missing = re.match(r"Could not override '([^']+)'", str(problem))
        if missing and any(item.startswith(f"{missing[1]}=") for overrides in composed for item in overrides):
            line = " ".join(item for item in overrides if item.partition("=")[0] not in space.fixed)
            parents = [parameter.key for parameter in space.parameters if missing[1].startswith(f"{parameter.key}.")]
            raise UserError(
                f"{missing[1]} does not exist in a trial with {line}: say where it does: "
                f"\"hydra.sweeper.conditions={{{missing[1]}:'{parents[0] if parents else 'KEY'}=VALUE'}}\""
            )
        parameter = next(parameter for parameter in space.parameters if parameter.key == key)
        if "converted to Integer" in f"{problem} {problem.__cause__}" and isinstance(
            parameter.distribution, FloatDistribution
        ):
            raise UserError(f"{key} is a whole number: search it by tag(int,interval(...)) or range(...)")
        raise problem
    trials.prepare(composed[0])


def _line(study: SearchStudy, trials: SweepTrials, trial: FrozenTrial, sweeper: Sequence[str]) -> str:
    """The best trial as overrides, without the recipe of the search where the run is the same without it."""
    overrides = study.space.overrides(trial.params)
    recipes = [item for item in overrides if item.startswith(f"{RECIPES}=")]
    try:
        # Without the recipe that brings the sweeper, `hydra.sweeper.*` would be unknown.
        same = trials.prepare([*sweeper, *(item for item in overrides if item not in recipes)])
        without = recipes if same.identity == trials.prepare(overrides).identity else []
    except UserError:
        without = []
    return outcome.override_line(study, trial, without=without)
