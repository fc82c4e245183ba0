"""What a sweep prints while nobody reads along any more."""

from __future__ import annotations

import threading

import pytest

from attnframe.cli import sweep_display, train


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


def test_a_broken_pipe_is_no_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def leave(arguments: list[str]) -> int:
        raise BrokenPipeError

    monkeypatch.setattr(train, "_launch", leave)
    monkeypatch.setattr(train.composition, "prepare", lambda: None)
    with pytest.raises(BrokenPipeError):
        train.main(["-m"])
