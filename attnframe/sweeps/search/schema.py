"""The config of a search: `hydra.sweeper` with `hydra/sweeper=attnframe_optuna`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import DictConfig


def _open(element_type: Any) -> Any:
    """A mapping to which the command line may add keys, which Hydra allows nowhere else without a ``+``."""
    return DictConfig({}, key_type=str, element_type=element_type, flags={"struct": False})


@dataclass
class SamplerSchema:
    """Who chooses the values: tpe, random, cmaes, grid or nsga2.

    `startup_trials` are drawn at random first (null: tpe 10, cmaes 1); `population_size` is that of a generation (null:
    nsga2 10, cmaes its own).
    """

    name: str = "tpe"
    startup_trials: int | None = None
    population_size: int | None = None


@dataclass
class PrunerSchema:
    """Who ends hopeless trials while they run: none, median or hyperband. Steps are optimizer steps.

    median: a trial ends whose best score so far is worse than the median of the others at that step; not before
    `startup_trials` are complete, nor before `warmup_steps`. hyperband: rungs from `min_steps` to `max_steps`, each
    `reduction_factor` times the one before (null: the steps between validations, and those of a run).
    """

    name: str = "median"
    startup_trials: int = 5
    warmup_steps: int = 0
    min_steps: int | None = None
    max_steps: int | None = None
    reduction_factor: int = 3


@dataclass
class SearchSchema:
    """A search of `n_trials`, of which `n_jobs` at a time go to the launcher.

    `objective` is a key of results.json or a list of them, `direction` minimize or maximize for each (null: as the key
    is usually meant). `params` are spaces by key, which the command line takes precedence over; `conditions` say by key
    where a parameter exists. `storage` is null (a journal file in the sweep's folder), a path, or an address of a
    database; `study_name` null the name of the sweep's folder. The search ends early when more than
    `max_failure_rate` of at least five trials have failed. A job cut off is run again `retries` times.
    """

    _target_: str = "hydra_plugins.attnframe.SearchSweeper"
    n_trials: int = 20
    n_jobs: int = 1
    objective: Any = "val/loss"
    direction: Any = None
    sampler: SamplerSchema = field(default_factory=SamplerSchema)
    pruner: PrunerSchema = field(default_factory=PrunerSchema)
    seed: int = 1
    params: dict[str, Any] = field(default_factory=lambda: _open(Any))
    conditions: dict[str, str] = field(default_factory=lambda: _open(str))
    storage: str | None = None
    study_name: str | None = None
    max_failure_rate: float = 0.8
    retries: int = 1
