"""What a worker does when its run ends badly, to its sweep and to folders of others."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.types import RunMode

from attnframe.cli import train_job
from attnframe.cli.train_job import TrainJob
from attnframe.errors import UserError
from attnframe.runs.folder import RunFolder
from attnframe.runs.loading import read_manifest
from attnframe.sweeps.identity import Identity
from attnframe.sweeps.sweep_folder import JobRecord
from attnframe.training import run
from attnframe.training.interruption import Interrupted


def job_in(
    folder: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch, mode: RunMode = RunMode.MULTIRUN
) -> TrainJob:
    """A job, by default of a sweep, in `folder` that raises `error`."""

    def fail(*given: Any) -> float:
        raise error

    job = TrainJob()
    hydra = SimpleNamespace(runtime=SimpleNamespace(output_dir=str(folder)), mode=mode)
    monkeypatch.setattr(train_job.HydraConfig, "get", lambda: hydra)
    monkeypatch.setattr(job, "_run", fail)
    return job


def prepared(folder: Path) -> Path:
    JobRecord(Identity("c", "d", "0", {}), ("seed=1",)).write(folder)
    return folder


def test_a_run_that_is_stopped_in_a_worker_does_not_stop_the_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_in(tmp_path, Interrupted(7), monkeypatch)
    with pytest.raises(Interrupted):
        job({})  # type: ignore[arg-type]
    home = job._home
    monkeypatch.setattr(job, "_home", (home[0] + 1, *home[1:]))
    with pytest.raises(RuntimeError, match=r"^stopped after step 7$"):
        job({})  # type: ignore[arg-type]


@pytest.mark.parametrize("claimed", [False, True])
def test_a_run_that_is_stopped_before_it_begins_leaves_its_marker(
    claimed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    if claimed:
        folder.claim()
    with pytest.raises(KeyboardInterrupt):
        job_in(tmp_path, KeyboardInterrupt(), monkeypatch, RunMode.RUN)({})  # type: ignore[arg-type]
    assert folder.markers == ["INTERRUPTED"]
    with pytest.raises(UserError, match=r"^resume=.* stopped before its first checkpoint.* nothing to go on from$"):
        read_manifest(folder, "resume")


def test_a_run_that_another_process_has_begun_is_not_marked_as_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.write_manifest({"settings": {}, "plugins": []})
    with pytest.raises(KeyboardInterrupt):
        job_in(tmp_path, KeyboardInterrupt(), monkeypatch, RunMode.RUN)({})  # type: ignore[arg-type]
    assert folder.markers == []


def test_a_run_takes_back_the_marker_of_one_that_was_stopped_there_before_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = RunFolder(tmp_path)
    folder.close("INTERRUPTED")
    monkeypatch.setattr(run, "_begin", lambda settings, folder, attention: {"markers": folder.markers})
    attention: Any = None
    assert run.run({}, tmp_path, attention) == {"markers": []}


def test_a_failure_before_the_run_is_left_in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepared(tmp_path / "job")
    with pytest.raises(ValueError, match="no GPU"):
        job_in(folder, ValueError("no GPU"), monkeypatch)({})  # type: ignore[arg-type]
    assert RunFolder(folder).markers == ["FAILED"]
    assert RunFolder(folder).last_error == "ValueError: no GPU"


def test_a_failure_before_a_run_goes_on_is_left_too_and_one_that_is_said_is_not_said_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared(tmp_path / "job")
    RunFolder(folder).close("INTERRUPTED")
    for _ in range(2):
        with pytest.raises(UserError, match="no such device"):
            job_in(folder, UserError("trainer.devices=9:\nno such device"), monkeypatch)({})  # type: ignore[arg-type]
        assert RunFolder(folder).markers == ["FAILED"]
        assert RunFolder(folder).last_error == "trainer.devices=9: no such device"
    assert not (folder / "errors_before.txt").exists()


def test_a_folder_in_which_another_runs_gets_no_marker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held, claimed = prepared(tmp_path / "job"), tmp_path / "no_job"
    RunFolder(claimed).claim()
    RunFolder(claimed).write_manifest({"settings": {}})
    with RunFolder(held).held():
        for folder in (held, claimed):
            with pytest.raises(ValueError, match="no GPU"):
                job_in(folder, ValueError("no GPU"), monkeypatch)({})  # type: ignore[arg-type]
            assert RunFolder(folder).markers == []
