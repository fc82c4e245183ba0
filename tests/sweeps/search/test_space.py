"""Hydra's grammar as a search space, and spaces that depend on what was chosen."""

from __future__ import annotations

import itertools
import math
import re

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from attnframe.errors import UserError
from attnframe.sweeps.search.space import SearchSpace, Value
from attnframe.sweeps.search.space_reading import read_space

RANK = {"attention.rank": "attention=low_rank_v"}


def space_of(*arguments: str, **conditions: str) -> SearchSpace:
    return read_space(arguments, conditions_of={key.replace("__", "."): text for key, text in conditions.items()})


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("x=interval(1,10)", FloatDistribution(1, 10)),
        ("x=tag(log,interval(1e-4,1e-2))", FloatDistribution(1e-4, 1e-2, log=True)),
        ("x=tag(int,interval(3,17))", IntDistribution(3, 17)),
        ("x=int(interval(3,17))", IntDistribution(3, 17)),
        ("x=tag(int,log,interval(3,17))", IntDistribution(3, 17, log=True)),
        # Like Python's, Hydra's range has no end.
        ("x=range(1,8)", IntDistribution(1, 7)),
        ("x=range(1,9,3)", IntDistribution(1, 7, step=3)),
        ("x=range(9,1,-3)", IntDistribution(3, 9, step=3)),
        ("x=tag(log,range(1,8))", IntDistribution(1, 7, log=True)),
        ("x=range(0.1,0.5,0.2)", FloatDistribution(0.1, 0.3, step=0.2)),
        ("x=b,a", CategoricalDistribution(["b", "a"])),
        ("x=choice(b,a,b)", CategoricalDistribution(["b", "a"])),
        ("x=2,3.5,null,true", CategoricalDistribution(["2", "3.5", "null", "True"])),
        ("x=[a,b],[c]", CategoricalDistribution(["[a,b]", "[c]"])),
    ],
)
def test_each_form_of_hydra_is_a_space(override: str, expected: object) -> None:
    (parameter,) = space_of(override).parameters
    assert parameter.distribution == expected
    assert parameter.key == "x"


def test_keys_are_those_of_the_command_line() -> None:
    space = space_of("attention@cross=self,multi_head", "+a.b=1,2", "seed=3", "~c", "layers.cross=[self,cross]")
    assert [parameter.key for parameter in space.parameters] == ["attention@cross", "+a.b"]
    overrides = space.overrides({"attention@cross": "self", "+a.b": "2"})
    assert overrides == ["seed=3", "~c", "layers.cross=[self,cross]", "attention@cross=self", "+a.b=2"]


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("x=tag(log,interval(0,1))", "begin above 0"),
        ("x=tag(log,range(0,5))", "begin above 0"),
        ("x=interval(2,1)", "from a smaller number to a larger"),
        ("x=tag(int,interval(0.5,2))", "whole numbers"),
        ("x=tag(lgo,interval(1,2))", "did you mean 'log'"),
        ("x=tag(log,choice(1,2))", "named values"),
        ("x=tag(log,range(1,9,2))", "has no step"),
        ("x=range(3,3)", "empty"),
        ("x=3", "nothing to search"),
    ],
)
def test_what_cannot_be_searched_is_refused(override: str, says: str) -> None:
    with pytest.raises(UserError, match=re.escape(says)):
        space_of(override)


def test_of_a_key_given_twice_the_last_counts() -> None:
    space = space_of("x=1", "y=1,2", "x=3,4", "y=5")
    assert [parameter.values() for parameter in space.parameters] == [["3", "4"]]
    assert space.fixed == {"y": "5"}


def test_the_command_line_goes_before_the_config() -> None:
    space = read_space(["x=3"], params={"x": "interval(0,1)", "y": "1,2"})
    assert space.fixed == {"x": "3"}
    assert [parameter.key for parameter in space.parameters] == ["y"]


@pytest.mark.parametrize("value", [0.0012345678, 0.123449999, 999.96, 1e-7])
def test_a_number_is_short_and_inside_its_bounds(value: float) -> None:
    (parameter,) = space_of(f"x=interval({value!r},{value * 3!r})").parameters
    assert float(parameter.text(value)) >= value
    assert math.isclose(float(parameter.text(value * 2)), value * 2, rel_tol=1e-3)
    assert len(parameter.text(value * 2)) <= 9


def test_a_parameter_is_there_only_where_its_condition_holds() -> None:
    arguments = ["attention.rank=2,4", "attention=multi_head,low_rank_v", "deep=1,2", "seed=5"]
    space = space_of(*arguments, attention__rank="attention=low_rank_v", deep="attention.rank=4 and seed=5")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=7))
    seen = set()
    for _ in range(60):
        trial = study.ask()
        chosen = tuple(space.chosen(space.suggest(trial)))
        assert set(trial.params) == {item.partition("=")[0] for item in chosen}
        seen.add(chosen)
    assert seen == {
        ("attention=multi_head",),
        ("attention=low_rank_v", "attention.rank=2"),
        ("attention=low_rank_v", "attention.rank=4", "deep=1"),
        ("attention=low_rank_v", "attention.rank=4", "deep=2"),
    }
    assert {tuple(space.chosen(point)) for point in space.grid()} == seen
    assert len(list(space.grid())) == len(seen)


def test_a_grid_is_every_combination_in_the_order_of_the_command_line() -> None:
    space = space_of("a=x,y", "b=range(0,7,3)", "c=range(0.5,2,0.5)")
    expected = itertools.product(["x", "y"], [0, 3, 6], [0.5, 1.0, 1.5])
    assert [tuple(point.values()) for point in space.grid()] == list(expected)


def test_a_grid_has_no_intervals() -> None:
    with pytest.raises(UserError, match=r"lr is an interval, which has no steps"):
        list(space_of("lr=interval(0,1)").grid())


@pytest.mark.parametrize(
    ("conditions", "says"),
    [
        ({"rank": "attention=low_rank"}, "did you mean 'low_rank_v'"),
        ({"rank": "atention=low_rank_v"}, "did you mean 'attention'"),
        ({"rang": "attention=low_rank_v"}, "rang is not searched: did you mean 'rank'"),
        ({"rank": "rank=2"}, "cannot depend on itself"),
        ({"rank": "deep=1", "deep": "rank=2"}, "a circle"),
        ({"rank": "attention=multi_head and attention=low_rank_v"}, "cannot be all of that at once"),
        ({"rank": "attention=low_rank_v", "deep": "rank=2 and attention=multi_head"}, "contradicts itself"),
        ({"rank": "lr=0.5"}, "an interval; a condition needs a choice or a range"),
        ({"rank": "attention"}, "is no condition"),
        ({"rank": "deep=interval(1,2)"}, "a condition names values"),
        ({"seed": "attention=low_rank_v"}, "seed is not searched but set to 5"),
        ({"rank": "seed=6"}, "which no trial has"),
    ],
)
def test_conditions_that_contradict_themselves_are_refused(conditions: dict[str, str], says: str) -> None:
    arguments = ["attention=multi_head,low_rank_v", "rank=2,4", "deep=1,2", "lr=interval(0,1)", "seed=5"]
    with pytest.raises(UserError, match=re.escape(says)):
        read_space(arguments, conditions_of=conditions)


def test_a_parameter_of_a_recipe_that_the_command_line_rules_out_is_left_out() -> None:
    params = {"attention": "multi_head,low_rank_v", "attention.rank": "2,4", "lr": "interval(0,1)"}
    space = read_space(["attention=multi_head"], params=params, conditions_of=RANK)
    assert [parameter.key for parameter in space.parameters] == ["lr"]
    assert [parameter.key for parameter in space.never] == ["attention.rank"]
    kept = read_space(["attention=low_rank_v"], params=params, conditions_of=RANK)
    assert {parameter.key for parameter in kept.parameters} == {"lr", "attention.rank"}


def test_probes_see_every_named_value_where_it_exists() -> None:
    space = space_of("attention=a,b,c", "rank=2,4", "lr=interval(1,2)", rank="attention=b,c")
    probes = [(key, space.chosen(values)) for key, values in space.probes()]
    assert all(any(item.startswith(f"{key}=") for item in chosen) for key, chosen in probes)
    items = {item for _, chosen in probes for item in chosen}
    assert {"attention=a", "attention=b", "attention=c", "rank=2", "rank=4"} < items
    assert all(1 < value < 2 for value in _numbers(probes, "lr"))


def _numbers(probes: list[tuple[str, list[str]]], key: str) -> list[Value]:
    return [float(item.partition("=")[2]) for _, chosen in probes for item in chosen if item.startswith(f"{key}=")]
