"""A search with stub jobs, held against brute force, Optuna's own record, and itself without a kill."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from stub_jobs import SPACE, Killed, bowl, search

from attnframe.sweeps.search.space import SearchSpace, Value
from attnframe.sweeps.search.space_reading import read_space


def states(study: optuna.Study) -> Counter[TrialState]:
    return Counter(trial.state for trial in study.trials)


@pytest.mark.parametrize(
    "sampler", ["tpe", pytest.param("random", marks=pytest.mark.slow), pytest.param("nsga2", marks=pytest.mark.slow)]
)
def test_each_sampler_finds_its_way(tmp_path: Path, sampler: str) -> None:
    found, jobs, problem = search(tmp_path, SPACE, bowl, n_trials=30, sampler=sampler)
    assert problem == ""
    assert states(found.study) == {TrialState.COMPLETE: 30}
    assert len(jobs.runs) == 30 - sum("repeats" in trial.user_attrs for trial in found.trials)
    (best,) = found.best
    assert best.value == min(bowl(run)["val/loss"] for run in jobs.runs)
    assert found.space.overrides(best.params) in [[f"{key}={value}" for key, value in run.items()] for run in jobs.runs]
    assert all(("rank" in run) == (run["variant"] == "ranked") and run["seed"] == "7" for run in jobs.runs)


@pytest.mark.slow
def test_cmaes_comes_nearer_than_where_it_began(tmp_path: Path) -> None:
    space = read_space(["x=interval(-5,5)", "y=interval(-5,5)"])

    def score(values: Mapping[str, str]) -> dict[str, Any]:
        return {"val/loss": (float(values["x"]) - 2) ** 2 + (float(values["y"]) + 1) ** 2}

    _, jobs, _ = search(tmp_path, space, score, n_trials=40, sampler="cmaes")
    losses = [score(run)["val/loss"] for run in jobs.runs]
    assert sum(losses[-10:]) < sum(losses[:10]) / 2


def test_a_grid_is_gone_through_once(tmp_path: Path) -> None:
    space = read_space(["a=1,2,3", "b=x,y", "c=range(0,4,2)"], conditions_of={"c": "b=y"})
    expected = [
        {"a": a, "b": b, **c}
        for a, (b, c) in itertools.product("123", [("x", {}), ("y", {"c": "0"}), ("y", {"c": "2"})])
    ]
    score = lambda values: {"val/loss": (int(values["a"]) - 2) ** 2 + int(values.get("c", 5))}  # noqa: E731
    _, first, _ = search(tmp_path, space, score, n_trials=4, sampler="grid", n_jobs=3)
    found, second, problem = search(tmp_path, space, score, n_trials=100, sampler="grid", n_jobs=3)
    assert problem == ""
    assert [*first.runs, *second.runs] == expected
    assert found.space.chosen(found.best[0].params) == ["a=2", "b=y", "c=0"]
    assert first.batches == [3, 1]


def test_a_search_that_was_killed_ends_like_one_that_was_not(tmp_path: Path) -> None:
    whole, _, _ = search(tmp_path / "whole", SPACE, bowl, n_trials=20, sampler="tpe", pruner="median")
    for killed_at in (4, 6):
        _, _, problem = search(
            tmp_path / "cut", SPACE, bowl, n_trials=20, sampler="tpe", pruner="median", killed_at=killed_at
        )
        assert problem == "killed"
    cut, _, _ = search(tmp_path / "cut", SPACE, bowl, n_trials=20, sampler="tpe", pruner="median")
    assert len(cut.trials) == 20
    for one, other in zip(whole.trials, cut.trials, strict=True):
        assert (one.state, one.params, one.values) == (other.state, other.params, other.values)
        assert one.intermediate_values == other.intermediate_values
    assert states(cut.study)[TrialState.PRUNED] >= 3


def test_a_trial_killed_while_its_values_are_chosen_has_failed_without_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = SearchSpace.suggest

    def killed(space: SearchSpace, trial: optuna.Trial) -> dict[str, Value]:
        values = whole(space, trial)
        if trial.number == 2:
            raise Killed
        return values

    with monkeypatch.context() as patched:
        patched.setattr(SearchSpace, "suggest", killed)
        _, first, problem = search(tmp_path, SPACE, bowl, n_trials=5)
    assert (problem, len(first.runs)) == ("killed", 2)
    found, second, problem = search(tmp_path, SPACE, bowl, n_trials=5)
    assert (problem, len(second.runs)) == ("", 2)
    assert states(found.study) == {TrialState.COMPLETE: 4, TrialState.FAIL: 1}
    cut = found.trials[2]
    assert (cut.state, cut.user_attrs["reason"]) == (TrialState.FAIL, "killed before it began")
    assert "folder" not in cut.user_attrs


@pytest.mark.parametrize("n_jobs", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_more_trials_are_added_to_the_same_study(tmp_path: Path, n_jobs: int) -> None:
    _, first, _ = search(tmp_path, SPACE, bowl, n_trials=7, n_jobs=n_jobs)
    found, second, _ = search(tmp_path, SPACE, bowl, n_trials=12, n_jobs=n_jobs)
    assert len(found.trials) == 12
    assert len(first.runs) == 7
    assert len(second.runs) == 5
    assert max(second.batches) == n_jobs
    # A sampler that begins anew with every start would draw the same again.
    assert not {run["lr"] for run in first.runs} & {run["lr"] for run in second.runs}
    _, third, _ = search(tmp_path, SPACE, bowl, n_trials=12)
    assert third.runs == []


def test_a_failed_run_a_nan_and_a_refusal_are_failed_trials(tmp_path: Path) -> None:
    space = read_space(["x=good,nan,error,refused,no_key,infinite"])

    def score(values: Mapping[str, str]) -> dict[str, Any]:
        kind = values["x"]
        return {
            "good": {"val/loss": 2.0},
            "nan": {"val/loss": math.nan},
            "error": {"error": "RuntimeError: out of memory"},
            "no_key": {"val/nll": 2.0},
            "infinite": {"val/loss": math.inf},
        }[kind]

    found, _, problem = search(tmp_path, space, score, n_trials=6, sampler="grid", pruner="median")
    assert problem == ""
    by_value = {trial.params["x"]: trial for trial in found.trials}
    assert by_value["good"].state == TrialState.COMPLETE
    assert {trial.state for name, trial in by_value.items() if name != "good"} == {TrialState.FAIL}
    reasons = {name: trial.user_attrs.get("reason") for name, trial in by_value.items()}
    assert reasons["error"] == "RuntimeError: out of memory"
    assert reasons["nan"] == "val/loss is nan after step 10"
    assert reasons["refused"] == "this value is refused"
    assert "has no 'val/loss'" in reasons["no_key"]
    assert "no finite number" in reasons["infinite"]


def test_a_search_in_which_nearly_everything_fails_ends(tmp_path: Path) -> None:
    found, jobs, problem = search(
        tmp_path, SPACE, lambda values: {"error": "no luck"}, n_trials=30, max_failure_rate=0.8
    )
    assert "5 of 5 trials have failed" in problem
    assert "no luck" in problem
    assert len(jobs.runs) == len(found.trials) == 5
    assert found.best == []


@pytest.mark.parametrize("n_jobs", [pytest.param(1, marks=pytest.mark.slow), 4])
def test_the_same_job_is_not_run_twice(tmp_path: Path, n_jobs: int) -> None:
    space = read_space(["x=1,2,3"])
    found, jobs, _ = search(
        tmp_path, space, lambda values: {"val/loss": float(values["x"])}, n_trials=20, n_jobs=n_jobs
    )
    assert sorted(run["x"] for run in jobs.runs) == ["1", "2", "3"]
    assert [trial.value for trial in found.trials] == [float(trial.params["x"]) for trial in found.trials]
    assert sum("repeats" in trial.user_attrs for trial in found.trials) == 17


@pytest.mark.parametrize("pruner", ["median", pytest.param("hyperband", marks=pytest.mark.slow)])
def test_hopeless_trials_are_pruned_and_the_best_is_not(tmp_path: Path, pruner: str) -> None:
    found, jobs, _ = search(tmp_path, SPACE, bowl, n_trials=30, pruner=pruner)
    ended = states(found.study)
    assert ended[TrialState.PRUNED] >= 5
    assert ended[TrialState.COMPLETE] + ended[TrialState.PRUNED] == 30
    best = min(jobs.runs, key=lambda run: bowl(run)["val/loss"])
    assert found.space.overrides(found.best[0].params) == [f"{key}={value}" for key, value in best.items()]
    for trial in found.trials:
        if trial.state == TrialState.PRUNED:
            assert trial.user_attrs["reason"].startswith(f"pruned by the search after step {trial.last_step}: val/loss")


@pytest.mark.slow
def test_the_median_rule_is_that_of_its_definition(tmp_path: Path) -> None:
    found, _, _ = search(tmp_path, SPACE, bowl, n_trials=30, pruner="median")
    for trial in found.trials:
        before = [other for other in found.trials[: trial.number] if other.state == TrialState.COMPLETE]
        for step, value in trial.intermediate_values.items():
            scores = sorted(other.intermediate_values[step] for other in before)
            middle = len(scores) // 2
            median = (scores[middle] + scores[-middle - 1]) / 2 if scores else math.inf
            best = min(other for at, other in trial.intermediate_values.items() if at <= step)
            hopeless = len(scores) >= 2 and best > median
            assert hopeless == (trial.state == TrialState.PRUNED and step == trial.last_step), value


@pytest.mark.slow
def test_several_objectives_give_every_compromise(tmp_path: Path) -> None:
    found, jobs, _ = search(
        tmp_path, SPACE, bowl, n_trials=24, objective=["val/loss", "parameters"], sampler="nsga2", pruner="median"
    )
    assert [str(objective) for objective in found.objectives] == ["minimize val/loss", "minimize parameters"]
    assert TrialState.PRUNED not in states(found.study)
    points = [(bowl(run)["val/loss"], bowl(run)["parameters"]) for run in jobs.runs]
    front = {
        point
        for point in points
        if not any(other != point and other[0] <= point[0] and other[1] <= point[1] for other in points)
    }
    assert {tuple(trial.values) for trial in found.best} == front
    assert len(front) > 1
