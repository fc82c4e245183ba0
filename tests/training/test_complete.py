"""Bringing a run to its end: what cannot go on says why, and whatever is raised closes the folder."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import pytest

from attnframe.errors import UserError
from attnframe.runs.folder import RunFolder
from attnframe.training import run as running
from attnframe.training.interruption import Interrupted


@pytest.mark.parametrize("marker", ["INTERRUPTED", "FAILED"])
def test_a_run_that_cannot_go_on_says_why(marker: str, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "manifest.json").write_text('{"settings": {}}', encoding="utf-8")
    folder.close(marker, "ValueError: before\n" if marker == "FAILED" else "")
    attention: Any = None
    with pytest.raises(UserError, match=r"manifest\.json does not say what ran"):
        running.complete({}, tmp_path, attention)
    assert folder.markers == ["FAILED"]
    assert "manifest.json does not say what ran" in folder.last_error
    said = folder.last_error
    with pytest.raises(UserError):
        running.complete({}, tmp_path, attention)
    assert folder.last_error == said
    if marker == "FAILED":
        assert "ValueError: before" in (tmp_path / "errors_before.txt").read_text(encoding="utf-8")


def test_an_interruption_comes_whole_out_of_another_process() -> None:
    for stop in (Interrupted(7), Interrupted()):
        assert str(pickle.loads(pickle.dumps(stop))) == str(stop)
