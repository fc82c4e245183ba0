"""Optuna's samplers and pruners by their names in a config."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import BaseSampler, CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler

from attnframe.errors import UserError, did_you_mean
from attnframe.sweeps.search.space import SearchSpace

SAMPLERS = ("tpe", "random", "cmaes", "grid", "nsga2")
PRUNERS = ("none", "median", "hyperband")

_NSGA2_POPULATION = 10


def check_sampler(settings: Mapping[str, Any], space: SearchSpace, objectives: int) -> None:
    """Refuse a sampler that cannot search this space for so many objectives. Raises `UserError`."""
    name, place = settings["name"], f"hydra.sweeper.sampler.name={settings['name']}"
    if name not in SAMPLERS:
        raise UserError(f"{place}: {did_you_mean(name, SAMPLERS)}")
    for key in ("startup_trials", "population_size"):
        if settings[key] is not None and settings[key] < (2 if key == "population_size" else 0):
            raise UserError(f"hydra.sweeper.sampler.{key}={settings[key]}: this is too few")
    if name == "grid":
        next(space.grid())
    if name == "cmaes":
        if objectives > 1:
            raise UserError(f"{place}: it searches for one objective; for several take nsga2 or tpe")
        numbers = [
            parameter.key
            for parameter in space.parameters
            if not parameter.condition.allowed
            and not isinstance(parameter.distribution, optuna.distributions.CategoricalDistribution)
        ]
        if len(numbers) < 2:
            raise UserError(
                f"{place}: it needs at least two numbers that exist in every trial, and here are "
                f"{', '.join(numbers) or 'none'}; take tpe"
            )


def make_sampler(settings: Mapping[str, Any], *, seed: int, trial: int) -> BaseSampler:
    """The sampler for trial number `trial`.

    Each trial has a sampler of its own, seeded by its number, so that a search which is stopped and goes on draws what
    it would have drawn: all else that samplers know is in the study.
    """
    drawn = int(np.random.SeedSequence([seed, trial]).generate_state(1)[0])
    startup, population = settings["startup_trials"], settings["population_size"]
    match settings["name"]:
        case "tpe":
            return TPESampler(n_startup_trials=10 if startup is None else startup, seed=drawn)
        case "cmaes":
            return CmaEsSampler(
                n_startup_trials=1 if startup is None else startup,
                popsize=population,
                seed=drawn,
                # Named values are nothing for it, and are then drawn at random.
                independent_sampler=RandomSampler(seed=drawn),
                warn_independent_sampling=False,
            )
        case "nsga2":
            return NSGAIISampler(population_size=population or _NSGA2_POPULATION, seed=drawn)
    return RandomSampler(seed=drawn)


def check_pruner(settings: Mapping[str, Any]) -> None:
    """Raises `UserError` for a pruner that there is not, or options that it cannot have."""
    name = settings["name"]
    if name not in PRUNERS:
        raise UserError(f"hydra.sweeper.pruner.name={name}: {did_you_mean(name, PRUNERS)}")
    least = {"startup_trials": 0, "warmup_steps": 0, "min_steps": 1, "max_steps": 1, "reduction_factor": 2}
    for key, lowest in least.items():
        if settings[key] is not None and settings[key] < lowest:
            raise UserError(f"hydra.sweeper.pruner.{key}={settings[key]} must be at least {lowest}")


def with_steps_of(settings: Mapping[str, Any], trainer: Mapping[str, Any]) -> dict[str, Any]:
    """The pruner's settings with `min_steps` and `max_steps` taken from a run's `trainer` where they are null."""
    interval, every = trainer["val_check_interval"], trainer["accumulate_grad_batches"]
    least = max(1, interval // every) if isinstance(interval, int) else 1
    most = trainer["max_steps"] if (trainer["max_steps"] or -1) > 0 else None
    return {
        **settings,
        "min_steps": settings["min_steps"] or least,
        "max_steps": settings["max_steps"] or most,
    }


def make_pruner(settings: Mapping[str, Any]) -> BasePruner:
    """The pruner of settings whose steps are decided."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match settings["name"]:
            case "median":
                return MedianPruner(
                    n_startup_trials=settings["startup_trials"], n_warmup_steps=settings["warmup_steps"]
                )
            case "hyperband":
                most = settings["max_steps"]
                return HyperbandPruner(
                    min_resource=settings["min_steps"],
                    # Unknown for a run that ends by time; then it learns it from the first complete trials.
                    max_resource="auto" if most is None else max(most, settings["min_steps"]),
                    reduction_factor=settings["reduction_factor"],
                )
    return NopPruner()
