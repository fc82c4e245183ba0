"""`attnframe train -m`: every combination of the values given, each a job that knows itself again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

from attnframe.errors import UserError
from attnframe.sweeps.estimating import estimate
from attnframe.sweeps.job import Ended, Job
from attnframe.sweeps.jobs import SweepJobs
from attnframe.sweeps.task import Task


class GridSweeper(Sweeper):
    """Hydra's basic sweeper, but for what happens to the jobs: what is done already is not run twice.

    `max_batch_size` jobs are handed to the launcher at once, None all. `retries` is how often a job that was cut off,
    with its worker or the whole launcher, is handed over again. `params` are overrides that stand in a config. With
    `estimate` one job of each kind is timed for a moment before the first begins.
    """

    def __init__(
        self,
        max_batch_size: int | None,
        retries: int,
        estimate: bool = True,
        params: Mapping[str, str] | None = None,
    ) -> None:
        self._max_batch_size = max_batch_size
        self._retries = retries
        self._estimate = estimate
        self._params = params or {}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self._task: Task = task_function  # type: ignore[assignment]  # what `attnframe train` hands to Hydra
        self._context = hydra_context
        self.config = config
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )
        self._jobs = SweepJobs(hydra_context, config, launcher, retries=self._retries)

    def sweep(self, arguments: list[str]) -> list[Ended]:
        """Run what is left of the sweep; how every job stands."""
        jobs, config = self._jobs, self.config
        assert config is not None
        if self._max_batch_size is not None and self._max_batch_size < 1:
            raise UserError(f"hydra.sweeper.max_batch_size={self._max_batch_size} must be at least 1, or null for all")
        if self._retries < 0:
            raise UserError(f"hydra.sweeper.retries={self._retries} must be at least 0")
        plan = [jobs.planned(job) for job in self._distinct(arguments)]
        if all(planned.action == "refused" for planned in plan):
            raise UserError(plan[0].reason)
        save_config(config, jobs.folder.path)
        self._task.show_plan(jobs.folder, plan, config)
        if self._estimate and any(planned.is_to_run for planned in plan):
            self._task.show_estimate(lambda: estimate(plan))
        size = self._max_batch_size or len(plan)
        ended: list[Ended] = []
        with self._task.watching([planned.job for planned in plan]):
            for start in range(0, len(plan), size):
                ended += jobs.run(plan[start : start + size])
        self._task.show_ended(jobs.folder, ended)
        return ended

    def _distinct(self, arguments: Sequence[str]) -> list[Job]:
        """The jobs in their order; of those that come to the same the first."""
        parser = OverridesParser.create(config_loader=self._context.config_loader)
        overrides = parser.parse_overrides([*(f"{key}={value}" for key, value in self._params.items()), *arguments])
        refuse_choices_for_the_sweep(overrides)
        (combinations,) = BasicSweeper.split_arguments(overrides, None)
        given = Counter(item for combination in combinations for item in combination)
        found: dict[str, Job] = {}
        for combination in combinations:
            varied = [item for item in combination if given[item] < len(combinations)]
            job = self._jobs.prepare(combination, self._task, name=" ".join(varied) or "the only job")
            found.setdefault(job.identity.key if job.identity else job.name, job)
        return list(found.values())


def refuse_choices_for_the_sweep(overrides: Sequence[Override]) -> None:
    """Refuse several values of what all jobs of a sweep have in common. Raises `UserError`."""
    for override in overrides:
        key = override.key_or_group
        if override.is_sweep_override() and (key in ("sweep", "launcher") or key.startswith(("hydra.", "hydra/"))):
            raise UserError(f"{override.input_line}: all jobs of a sweep share {key}, so it has one value")


def save_config(config: DictConfig, folder: Path) -> None:
    """Leave `multirun.yaml`, the config of the sweep, in its folder, as Hydra does."""
    folder.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, folder / "multirun.yaml")
