"""The folder of a sweep: every job once, whoever writes and whatever is killed."""

from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from attnframe.errors import UserError
from attnframe.runs.folder import RunFolder
from attnframe.sweeps.identity import Identity
from attnframe.sweeps.sweep_folder import JobRecord, SweepFolder, marker_of

IDENTITY = Identity(config="c" * 64, data="d" * 64, version="0", sources={"attnframe.attention.self": "5" * 64})


def job(sweep: Path, seed: int, *, loss: float = 1.0) -> Path:
    """The folder of a job that is done."""
    identity = replace(IDENTITY, config=f"{seed}" * 64)
    folder = SweepFolder(sweep).folder_of(identity, f"seed={seed}")
    JobRecord(identity, (f"seed={seed}", "sweep=x", "hydra.sweep.dir=y", "launcher=joblib")).write(folder)
    RunFolder(folder).write_json("results.json", {"val/loss": loss, "seed": seed})
    return folder


def test_a_job_is_found_again_under_another_name(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path)
    folder = sweep.folder_of(IDENTITY, "attention={name:self,x:[1/2]} seed=1")
    assert folder.parent == tmp_path
    assert "/" not in folder.name
    JobRecord(IDENTITY, ("seed=1",)).write(folder)
    assert sweep.folder_of(IDENTITY, "seed=1") == folder
    assert sweep.folder_of(replace(IDENTITY, data="e" * 64), "seed=1") != folder
    assert len(sweep.folder_of(IDENTITY, "x" * 500).name) < 120


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    record = JobRecord(IDENTITY, ("seed=1", "attention=self"))
    record.write(tmp_path / "job")
    assert JobRecord.read(tmp_path / "job") == record
    (tmp_path / "job" / "job.json").write_text("{half", encoding="utf-8")
    assert JobRecord.read(tmp_path / "job") is None
    assert JobRecord.read(tmp_path) is None


def test_others_of_the_same_config_are_those_of_other_code_or_data(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path)
    before = replace(IDENTITY, sources={"attnframe.attention.self": "6" * 64})
    folder = sweep.folder_of(before, "seed=1")
    JobRecord(before, ("seed=1",)).write(folder)
    JobRecord(IDENTITY, ("seed=1",)).write(sweep.folder_of(IDENTITY, "seed=1"))
    job(tmp_path, 2)
    assert sweep.others_with_config(IDENTITY) == [(folder, before)]
    assert IDENTITY.changed_since(before) == ["attnframe.attention.self"]
    assert replace(IDENTITY, version="1").changed_since(IDENTITY) == ["attnframe 0 -> 1"]


def test_a_result_is_recorded_once_and_half_a_line_swallows_none(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path)
    first, second = job(tmp_path, 1, loss=float("nan")), job(tmp_path, 2)
    sweep.record(first)
    with sweep.results_file.open("a", encoding="utf-8") as file:
        file.write('{"identity": "abc", "val/lo')
    before = sweep.results_file.read_bytes()
    sweep.record(second)
    sweep.record(first)
    sweep.record(second)
    assert sweep.results_file.read_bytes().startswith(before)
    found = sweep.results()
    assert [line["seed"] for line in found.values()] == [1, 2]
    assert next(iter(found.values()))["val/loss"] is None
    assert [line["folder"] for line in found.values()] == [first.name, second.name]
    assert [line["overrides"] for line in found.values()] == [["seed=1"], ["seed=2"]]


def test_what_is_no_text_in_the_results_stays_and_hides_nothing(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path)
    damage = b"\xff\xfe not text\n"
    sweep.results_file.write_bytes(damage)
    sweep.record(job(tmp_path, 1))
    text = sweep.results_file.read_bytes()
    assert text.startswith(damage)
    assert json.loads(text[len(damage) :])["seed"] == 1


def test_many_processes_write_at_once(tmp_path: Path) -> None:
    folders = [job(tmp_path, seed) for seed in range(1, 8)]
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=_record_all, args=(tmp_path, folders[turn:] + folders[:turn])) for turn in range(5)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    lines = (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert sorted(json.loads(line)["seed"] for line in lines) == list(range(1, 8))


def _record_all(sweep: Path, folders: list[Path]) -> None:
    for folder in folders:
        SweepFolder(sweep).record(folder)


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    sweep = SweepFolder(tmp_path)
    assert sweep.results() == {}
    sweep.results_file.mkdir()
    with pytest.raises(UserError, match=r"results\.jsonl cannot be read"):
        sweep.results()


def test_the_marker_of_a_folder(tmp_path: Path) -> None:
    assert marker_of(tmp_path) == ""
    RunFolder(tmp_path).close("FAILED", "Traceback\n  File x\n    y = 1\nValueError: no\nmore\n")
    assert marker_of(tmp_path) == "FAILED"
    assert RunFolder(tmp_path).last_error == "ValueError: no more"
