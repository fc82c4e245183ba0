"""Reading run folders: which are found, how they ended, and that nothing of them changes."""

from __future__ import annotations

from pathlib import Path

import pytest
from synthetic_runs import make_run

from attnframe.comparison.run_records import read_run, read_runs
from attnframe.errors import UserError


def test_runs_are_found_below_any_folder_once_and_in_the_order_of_numbers(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        make_run(tmp_path / "sweep" / f"{number}_run", seed=number)
    make_run(tmp_path / "other")
    # What lies inside of a run is none.
    make_run(tmp_path / "other" / "eval" / "inner")
    found = read_runs([tmp_path / "sweep", tmp_path / "sweep" / "2_run", tmp_path])
    assert [run.path.name for run in found] == ["1_run", "2_run", "10_run", "other"]


def test_folders_without_a_run_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="there is no run in this folder or below it"):
        read_runs([tmp_path / "empty"])
    with pytest.raises(UserError, match="this is no folder"):
        read_runs([Path(__file__)])
    with pytest.raises(UserError, match="there is no such folder"):
        read_runs([tmp_path / "none"])


def test_what_is_not_done_says_why_and_has_no_results(tmp_path: Path) -> None:
    failed = make_run(tmp_path / "failed", marker="FAILED")
    (failed / "error.txt").write_text("Traceback\nValueError: the loss is NaN\n", encoding="utf-8")
    stopped = make_run(tmp_path / "stopped", marker="INTERRUPTED")
    (stopped / "results.json").write_text('{"test/exact_match": 1.0}', encoding="utf-8")
    going_on = make_run(tmp_path / "going_on", marker="")
    assert read_run(failed).unfinished == "the run failed: ValueError: the loss is NaN"
    assert read_run(stopped).unfinished == "the run was stopped before its end"
    assert read_run(stopped).results == {}
    assert "still going on, or was killed" in read_run(going_on).unfinished


@pytest.mark.parametrize(
    ("file", "text", "says"),
    [
        ("results.json", "{", "results.json is missing or damaged"),
        ("results.json", "[]", "results.json is missing or damaged"),
        ("manifest.json", "", "manifest.json is damaged"),
        ("manifest.json", "[1]", "manifest.json is damaged"),
        ("manifest.json", '{"settings": {}, "data": null}', "manifest.json is damaged"),
        ("manifest.json", '{"settings": {}, "versions": "1"}', "manifest.json is damaged"),
        ("manifest.json", '{"settings": {"data": null}}', "manifest.json is damaged"),
    ],
)
def test_damaged_files_are_said(file: str, text: str, says: str, tmp_path: Path) -> None:
    folder = make_run(tmp_path / "run")
    (folder / file).write_text(text, encoding="utf-8")
    assert read_run(folder).unfinished == says


def test_numbers_are_numbers(tmp_path: Path) -> None:
    run = read_run(make_run(tmp_path / "run", results={"backend": "sdpa", "test/bleu": None, "flag": True}))
    endless = read_run(make_run(tmp_path / "endless", results={"train/steps": float("nan"), "test/loss": float("inf")}))
    assert (endless.number("train/steps"), endless.number("test/loss")) == (None, None)
    assert (run.number("backend"), run.number("test/bleu"), run.number("flag"), run.number("none")) == (None,) * 4
    assert run.number("train/steps") == 100.0
