"""Objectives, samplers and pruners by name, and what is refused before the first trial."""

from __future__ import annotations

import re
from typing import Any

import pytest
from optuna.pruners import HyperbandPruner, MedianPruner, NopPruner
from optuna.samplers import CmaEsSampler, NSGAIISampler, RandomSampler, TPESampler
from stub_jobs import PRUNER, SAMPLER

from attnframe.errors import UserError
from attnframe.sweeps.search import choosers
from attnframe.sweeps.search.objectives import read_objectives, values_of
from attnframe.sweeps.search.space_reading import read_space


@pytest.mark.parametrize(
    ("key", "direction", "expected"),
    [
        ("val/loss", None, ["minimize val/loss"]),
        ("val/aer_norms", None, ["minimize val/aer_norms"]),
        ("val/bleu", None, ["maximize val/bleu"]),
        ("val/exact_match", None, ["maximize val/exact_match"]),
        ("val/bleu", "minimize", ["minimize val/bleu"]),
        (["val/loss", "parameters"], None, ["minimize val/loss", "minimize parameters"]),
        (["val/loss", "train/tokens_per_second"], ["minimize", "maximize"], ["minimize val/loss", "maximize train/to"]),
    ],
)
def test_objectives_have_the_direction_that_is_meant(key: Any, direction: Any, expected: list[str]) -> None:
    found = [str(objective) for objective in read_objectives(key, direction)]
    assert len(found) == len(expected)
    assert all(one.startswith(other) for one, other in zip(found, expected, strict=True))


@pytest.mark.parametrize(
    ("key", "direction", "says"),
    [
        ("test/bleu", None, "its score is no test any more; take val/bleu"),
        ("test/longer/loss", None, "take val/loss"),
        ("val/belu", None, "did you mean 'val/bleu'"),
        ("seed", None, "hydra.sweeper.direction=minimize"),
        ("val/loss", "down", "hydra.sweeper.direction=down"),
        (["val/loss", "val/bleu"], ["minimize"], "there are 2 objectives"),
        (["val/loss", "val/loss"], None, "each may be there once"),
    ],
)
def test_objectives_that_cannot_be_are_refused(key: Any, direction: Any, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        read_objectives(key, direction)


def test_scores_that_are_none_are_said() -> None:
    (objective,) = read_objectives("val/loss", None)
    assert values_of({"val/loss": 2}, [objective]) == [2.0]
    assert values_of({"val/loss": None}, [objective]) == "val/loss is no finite number"
    assert values_of({"val/nll": 1.0}, [objective]) == (
        "results.json has no 'val/loss': did you mean 'val/nll'? (known: val/nll)"
    )


def test_each_name_is_its_sampler_and_its_pruner() -> None:
    samplers = {"tpe": TPESampler, "random": RandomSampler, "cmaes": CmaEsSampler, "nsga2": NSGAIISampler}
    for name in choosers.SAMPLERS:
        made = choosers.make_sampler({**SAMPLER, "name": name}, seed=1, trial=0)
        # A grid is enumerated, and its sampler never asked.
        assert type(made) is samplers.get(name, RandomSampler)
    pruners = {"none": NopPruner, "median": MedianPruner, "hyperband": HyperbandPruner}
    for name in choosers.PRUNERS:
        settings = {**PRUNER, "name": name, "min_steps": 5, "max_steps": 40}
        assert type(choosers.make_pruner(settings)) is pruners[name]


@pytest.mark.parametrize(
    ("trainer", "expected"),
    [
        ({"val_check_interval": 20, "accumulate_grad_batches": 1, "max_steps": 500}, (20, 500)),
        ({"val_check_interval": 20, "accumulate_grad_batches": 4, "max_steps": 500}, (5, 500)),
        ({"val_check_interval": 0.5, "accumulate_grad_batches": 1, "max_steps": -1}, (1, None)),
        ({"val_check_interval": None, "accumulate_grad_batches": 1, "max_steps": 90}, (1, 90)),
    ],
)
def test_rungs_are_those_of_the_run(trainer: dict[str, Any], expected: tuple[int, int | None]) -> None:
    found = choosers.with_steps_of(PRUNER, trainer)
    assert (found["min_steps"], found["max_steps"]) == expected
    own = choosers.with_steps_of({**PRUNER, "min_steps": 7, "max_steps": 70}, trainer)
    assert (own["min_steps"], own["max_steps"]) == (7, 70)


@pytest.mark.parametrize(
    ("settings", "objectives", "says"),
    [
        ({"name": "tpf"}, 1, "did you mean 'tpe'"),
        ({"name": "grid"}, 1, "x is an interval"),
        ({"name": "cmaes"}, 2, "one objective"),
        ({"name": "cmaes"}, 1, "at least two numbers that exist in every trial, and here are x"),
        ({"population_size": 1}, 1, "population_size=1"),
    ],
)
def test_a_sampler_that_cannot_search_the_space_is_refused(
    settings: dict[str, Any], objectives: int, says: str
) -> None:
    space = read_space(["x=interval(0,1)", "y=interval(0,1)", "z=a,b"], conditions_of={"y": "z=a"})
    with pytest.raises(UserError, match=re.escape(says)):
        choosers.check_sampler({**SAMPLER, **settings}, space, objectives)


@pytest.mark.parametrize(
    ("settings", "says"), [({"name": "medan"}, "did you mean 'median'"), ({"reduction_factor": 1}, "at least 2")]
)
def test_a_pruner_that_cannot_be_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        choosers.check_pruner({**PRUNER, **settings})
