"""A run leaves its report; one that cannot be drawn is trained all the same, and the log says why."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from tiny_run import tiny_run

from attnframe.training import final_report

STEPS = ("trainer.max_steps=3", "callbacks.patterns.sentences=1")


def broken(*arguments: Any, **named: Any) -> Any:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("write_report", "report.html could not be written: [Errno 28] No space left on device"),
        ("draw_last_patterns", "the last patterns could not be drawn: [Errno 28] No space left on device"),
    ],
)
def test_a_failure_to_draw_fails_no_run(
    name: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(final_report, name, broken)
    with caplog.at_level(logging.WARNING):
        tiny_run(tmp_path / "run", *STEPS)
    assert [record.getMessage() for record in caplog.records if record.name == final_report.__name__] == [sentence]
    assert (tmp_path / "run" / "DONE").exists()
    assert (tmp_path / "run" / "report.html").exists() is (name != "write_report")
    assert bool(list((tmp_path / "run").rglob("*.png"))) is (name != "draw_last_patterns")
