"""Which validations leave patterns: spread over the whole run, however long it gets and wherever it goes on."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from attnframe.runs.folder import RunFolder
from attnframe.runs.snapshots import snapshot_file, snapshot_files
from attnframe.training.pattern_snapshots import PatternSnapshots
from attnframe.training.task import TranslationTask


@pytest.fixture(autouse=True)
def only_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """A snapshot is an empty file."""

    def take(self: PatternSnapshots, trainer: Any, task: Any) -> None:
        file = snapshot_file(self._folder, task.global_step, 0)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    monkeypatch.setattr(PatternSnapshots, "take", take)


def validate(callback: PatternSnapshots, step: int, *, fn: str = "fit", max_steps: int = -1) -> None:
    trainer = SimpleNamespace(
        state=SimpleNamespace(fn=fn), global_step=step, max_steps=max_steps, sanity_checking=False
    )
    task = TranslationTask.__new__(TranslationTask)
    task.__dict__["_trainer"] = trainer
    task.__dict__["_fabric"] = None
    callback.on_validation_end(cast(Any, trainer), task)


def snapshots(path: Path, most: int) -> PatternSnapshots:
    return PatternSnapshots(RunFolder(path), sentences=1, max_snapshots=most)


def kept(path: Path) -> list[int]:
    return list(snapshot_files(RunFolder(path)))


@pytest.mark.parametrize("most", [1, 2, 3, 4, 7, 20])
def test_they_are_spread_over_the_whole_run(most: int, tmp_path: Path) -> None:
    callback = snapshots(tmp_path, most)
    for count in range(1, 150):
        validate(callback, 10 * count)
        steps = kept(tmp_path)
        assert steps[0] == 10
        assert len(steps) <= most
        distances = {after - before for before, after in itertools.pairwise(steps)}
        assert len(distances) <= 1
        if count <= most:
            assert steps == [10 * place for place in range(1, count + 1)]
        elif most > 1:
            assert len(steps) > most // 2
            assert 10 * count - steps[-1] < min(distances)


def test_by_hand(tmp_path: Path) -> None:
    callback = snapshots(tmp_path, 3)
    seen = []
    for step in (5, 10, 15, 20, 25, 30, 35, 40, 45):
        validate(callback, step)
        seen.append(kept(tmp_path))
    assert seen == [
        [5],
        [5, 10],
        [5, 10, 15],
        [5, 15],
        [5, 15, 25],
        [5, 15, 25],
        [5, 25],
        [5, 25],
        [5, 25, 45],
    ]


@pytest.mark.parametrize("most", [0, 1, 3])
def test_the_last_state_comes_besides(most: int, tmp_path: Path) -> None:
    callback = snapshots(tmp_path, most)
    for step in (5, 10, 15, 20):
        validate(callback, step)
    before = kept(tmp_path)
    validate(callback, 23, fn="validate")
    assert kept(tmp_path) == [*before, 23]
    other = snapshots(tmp_path / "other", most)
    for step in (5, 10, 15, 20, 25):
        validate(other, step, max_steps=25)
    assert kept(tmp_path / "other")[-1] == 25


@pytest.mark.parametrize("stop", [1, 3, 4, 5, 8])
@pytest.mark.parametrize("later", [0, 2, 4])
def test_a_run_that_goes_on_keeps_what_one_that_was_not_stopped_keeps(stop: int, later: int, tmp_path: Path) -> None:
    """It goes on from an earlier state than the files are of."""
    whole = snapshots(tmp_path / "whole", 3)
    for step in range(1, 20):
        validate(whole, step)
    first = snapshots(tmp_path / "run", 3)
    for step in range(1, stop + 1):
        validate(first, step)
    state = copy.deepcopy(first.state_dict())
    for step in range(stop + 1, stop + later + 1):
        validate(first, step)
    second = snapshots(tmp_path / "run", 3)
    second.load_state_dict(state)
    for step in range(stop + 1, 20):
        validate(second, step)
    assert kept(tmp_path / "run") == kept(tmp_path / "whole")
    assert second.state_dict() == whole.state_dict()


def test_the_state_of_an_older_version_goes_on(tmp_path: Path) -> None:
    callback = snapshots(tmp_path, 3)
    callback.load_state_dict({"left": 17, "done_step": 30})
    validate(callback, 40)
    assert kept(tmp_path) == [40]
