"""What a sweep prints in its end, and while nobody reads along any more."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from attnframe.cli import sweep_display, train
from attnframe.sweeps.job import Ended, Job
from attnframe.sweeps.sweep_folder import SweepFolder


def test_jobs_go_on_when_the_reader_has_gone_away() -> None:
    told = threading.Event()

    def tell() -> None:
        told.set()
        raise BrokenPipeError

    def jobs() -> None:
        with sweep_display._every(0.001, tell):
            assert told.wait(10)

    # The thread's own exception would be a warning, and so a failure of this test.
    with pytest.raises(BrokenPipeError):
        jobs()


def test_a_refused_job_is_called_so_and_one_that_was_killed_has_no_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    jobs = [Job("a", (), {}, refused="it cannot be"), Job("b", (), {}), Job("c", (), {})]
    ended = [Ended(jobs[0], "", reason="it cannot be"), Ended(jobs[1], ""), Ended(jobs[2], "DONE", {"val/loss": 2.5})]
    sweep_display.print_ended(SweepFolder(tmp_path), ended)
    printed = capsys.readouterr()
    rows = [line.split("\t")[:2] for line in printed.out.splitlines()[1:4]]
    assert rows == [["a", "refused"], ["b", "no end"], ["c", "DONE"]]
    assert printed.err == "attnframe train: a: it cannot be\n"


def test_a_broken_pipe_is_no_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(arguments: list[str]) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(train, "_launch", leave)
    monkeypatch.setattr(train.composition, "prepare", lambda: None)
    with pytest.raises(BrokenPipeError):
        train.main(["-m"])
