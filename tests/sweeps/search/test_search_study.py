"""Where the study of a search is kept, and which searches may go on with it."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from stub_jobs import ARGUMENTS, SPACE, bowl, search

from attnframe.errors import UserError
from attnframe.sweeps.search.space_reading import read_space
from attnframe.sweeps.search.storage import storage_address


@pytest.mark.slow
def test_a_database_holds_a_study_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _, _, problem = search(tmp_path, SPACE, bowl, n_trials=6, storage="sqlite:///study.db", killed_at=3)
    assert problem == "killed"
    search(tmp_path, SPACE, bowl, n_trials=6, storage="sqlite:///study.db", pruner="median")
    stored = optuna.load_study(study_name="study", storage=f"sqlite:///{tmp_path}/study.db")
    assert [trial.state for trial in stored.trials] == [TrialState.COMPLETE] * 6


@pytest.mark.parametrize(
    ("arguments", "objective", "says"),
    [
        (("lr=interval(1e-4,1)", *ARGUMENTS[1:]), "val/loss", "lr was searched over other values"),
        ((ARGUMENTS[0], "variant=plain,ranked,other", *ARGUMENTS[2:]), "val/loss", "variant was searched over other"),
        ((*ARGUMENTS[:3], "seed=8"), "val/loss", "seed was 7 and is now 8"),
        ((*ARGUMENTS, "depth=1,2"), "val/loss", "now it searches depth, which is new"),
        (ARGUMENTS, "val/aer", "its objective is minimize val/loss, not minimize val/aer"),
    ],
)
def test_a_study_of_something_else_is_refused(
    tmp_path: Path, arguments: tuple[str, ...], objective: str, says: str
) -> None:
    search(tmp_path, SPACE, bowl, n_trials=2)
    other = read_space(arguments, conditions_of={"rank": "variant=ranked"})
    with pytest.raises(UserError, match=says):
        search(tmp_path, other, bowl, n_trials=3, objective=objective)


@pytest.mark.slow
def test_a_wider_interval_and_another_logger_may_go_on(tmp_path: Path) -> None:
    search(tmp_path, SPACE, bowl, n_trials=2)
    arguments = ("lr=tag(log,interval(1e-6,10))", "variant=plain,ranked", "rank=range(1,9)", "seed=7", "logger=none")
    wider = read_space(arguments, conditions_of={"rank": "variant=ranked"})
    found, _, _ = search(tmp_path, wider, bowl, n_trials=20)
    assert len(found.trials) == 20
    assert any(trial.params["lr"] > 1 for trial in found.trials)


@pytest.mark.parametrize("storage", ["nosuch://host/base", "postgresql://me:secret@nowhere.invalid/base"])
def test_a_storage_that_cannot_be_reached_is_refused_without_its_password(tmp_path: Path, storage: str) -> None:
    with pytest.raises(UserError, match=r"hydra\.sweeper\.storage=") as refusal:
        search(tmp_path, SPACE, bowl, n_trials=1, storage=storage)
    assert "secret" not in str(refusal.value)


def test_addresses_are_the_same_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert storage_address(None, Path("sweep")) == str(tmp_path / "sweep" / "search.journal")
    assert storage_address("sqlite:///a.db", tmp_path) == f"sqlite:///{tmp_path}/a.db"
    assert storage_address("sqlite:////b/a.db", tmp_path) == "sqlite:////b/a.db"
    assert storage_address("mysql://host/base", tmp_path) == "mysql://host/base"
    assert storage_address("a.journal", tmp_path / "x") == str(tmp_path / "a.journal")
