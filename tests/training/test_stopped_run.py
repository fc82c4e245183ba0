"""What a run may go on with, and what is refused without a trace."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resuming import STEPS, STOPPING_EARLY, TINY, checkpoint, markers, pressing, same, untimed_rows
from tiny_run import filled, metric_rows, tiny_resume, tiny_run

from attnframe import UserError
from attnframe.runs.folder import RunFolder
from attnframe.training.interruption import Interrupted

# Its rates do not depend on where the run will end.
OPEN = (*STEPS[1:], "scheduler=inverse_square_root", "callbacks.patterns.sentences=0")


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is done after 11 steps."""
    path = tmp_path_factory.mktemp("done") / "run"
    tiny_run(path, *OPEN, "trainer.max_steps=11")
    return path


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    path = tmp_path / "run"
    shutil.copytree(done, path)
    return path


def contents(path: Path) -> dict[Path, bytes]:
    """Every file of a run but the lock, which says who holds it."""
    return {file: file.read_bytes() for file in path.rglob("*") if file.is_file() and file.name != ".lock"}


def manifest(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    return found


def refused(path: Path, match: str, **limits: Any) -> None:
    before = contents(path)
    with pytest.raises(UserError, match=match):
        tiny_resume(path, **limits)
    assert contents(path) == before


def test_a_run_that_is_done_goes_on_to_a_later_end(copy: Path, tmp_path: Path) -> None:
    tiny_resume(copy, max_steps=19)
    whole = tmp_path / "whole"
    tiny_run(whole, *OPEN, "trainer.max_steps=19")
    assert markers(copy) == ["DONE"]
    for key in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert same(checkpoint(copy, "last")[key], checkpoint(whole, "last")[key])
    rows = untimed_rows(copy)
    # The old end was a row and a validation of its own.
    assert [row for row in rows if row["step"] != "11"] == untimed_rows(whole)
    assert [int(row["step"]) for row in rows if row["step"] == "11"] == [11, 11]
    assert manifest(copy)["settings"]["trainer"]["max_steps"] == 19
    (entry,) = manifest(copy)["resumed"]
    assert (entry["step"], entry["limits"]) == (11, {"max_steps": 19})
    assert "versions" not in entry
    results = json.loads((copy / "results.json").read_text(encoding="utf-8"))
    assert results["train/steps"] == 19
    seconds = [float(row["seconds"]) for row in metric_rows(copy)]
    assert seconds == sorted(seconds)


@pytest.mark.slow
def test_totals_are_those_of_all_parts(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with pressing(7), pytest.raises(Interrupted):
        tiny_run(path, *STEPS)
    first = checkpoint(path, "last")["callbacks"]["MetricsLog"]
    results = tiny_resume(path)
    assert results["train/seconds"] > first["seconds"] + first["window_seconds"] > 0
    whole = tmp_path / "whole"
    expected = tiny_run(whole, *STEPS)
    tokens = [run["train/seconds"] * run["train/tokens_per_second"] for run in (results, expected)]
    assert tokens[0] == pytest.approx(tokens[1], rel=1e-9)


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        ({}, r"is done: it has reached trainer\.max_steps=11, at step 11 .*; give a larger trainer\.max_steps"),
        ({"max_steps": 11}, r"it has reached trainer\.max_steps=11"),
        ({"max_steps": 10}, r"trainer\.max_steps=10: the run is beyond that, at step 11 in epoch 2"),
        ({"max_epochs": 2}, r"trainer\.max_epochs=2: the run is beyond that"),
        ({"max_epochs": 50}, r"it has reached trainer\.max_steps=11"),
        ({"max_steps": -1, "max_time": "00:00:00:00"}, r"trainer\.max_time=00:00:00:00: the run is beyond that"),
        ({"max_steps": -1, "max_time": "soon"}, r"trainer\.max_time=soon: write it as DD:HH:MM:SS"),
    ],
)
def test_no_step_is_left(done: Path, limits: dict[str, Any], match: str) -> None:
    refused(done, match, **limits)


def test_a_schedule_that_needs_an_end_is_refused(tmp_path: Path) -> None:
    tiny_run(tmp_path / "run", *OPEN, "trainer.max_steps=1", "scheduler=warmup_cosine")
    refused(tmp_path / "run", "use scheduler=inverse_square_root", max_steps=-1, max_time="00:00:01:00")


def test_what_early_stopping_has_ended_stays_so(tmp_path: Path) -> None:
    tiny_run(tmp_path / "run", *STOPPING_EARLY)
    refused(tmp_path / "run", "early_stopping ended it after step 9", max_steps=50)


def test_other_data_is_refused(copy: Path) -> None:
    changed = manifest(copy)
    changed["settings"]["data"]["seed"] = 7
    (copy / "manifest.json").write_text(json.dumps(changed), encoding="utf-8")
    refused(copy, "the data is not what the run was trained on any more", max_steps=19)


def test_what_lightning_refuses_is_refused_too(copy: Path) -> None:
    changed = manifest(copy)
    changed["settings"]["trainer"]["gradient_clip_algorithm"] = "scissors"
    (copy / "manifest.json").write_text(json.dumps(changed), encoding="utf-8")
    refused(copy, "scissors", max_steps=19)


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run"
    tiny_run(path, *OPEN, "trainer.max_steps=1", "attention=low_rank_v", "attention.rank=2")
    changed = manifest(path)
    changed["settings"]["attention"]["rank"] = 3
    (path / "manifest.json").write_text(json.dumps(changed), encoding="utf-8")
    refused(path, r"last\.ckpt does not fit the variants as they are: .*size mismatch", max_steps=2)


def test_a_damaged_checkpoint_is_refused(copy: Path) -> None:
    last = copy / "checkpoints" / "last.ckpt"
    whole = last.read_bytes()
    for damaged in (b"", b"nonsense", whole[: len(whole) // 2]):
        last.write_bytes(damaged)
        refused(copy, r"last\.ckpt cannot be read", max_steps=19)
    torch.save({"state_dict": {}, "callbacks": {}}, last)
    refused(copy, r"last\.ckpt was written by an attnframe that could not go on", max_steps=19)
    last.unlink()
    refused(copy, r"last\.ckpt is missing", max_steps=19)
    last.write_bytes(whole)
    (copy / "checkpoints" / "best.ckpt").unlink()
    refused(copy, r"best\.ckpt is missing", max_steps=19)


def test_a_damaged_metrics_log_is_refused(copy: Path) -> None:
    metrics = copy / "metrics.csv"
    whole = metrics.read_bytes()
    for damaged in (whole[:-20], whole[:-3], whole[:10], b"", b"\xff\xfe" * 99, b"step" + whole):
        metrics.write_bytes(damaged)
        refused(
            copy,
            r"metrics\.csv is damaged: the run has written \d+ rows, of which \d+ are left",
            max_steps=19,
        )


def test_a_log_of_an_older_version_goes_on_with_its_columns(copy: Path) -> None:
    metrics = copy / "metrics.csv"
    before = metric_rows(copy)
    for row in before:
        del row["val/aer_norms"], row["val/alignment_recall"]
    with metrics.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(before[0]))
        writer.writeheader()
        writer.writerows(before)
    tiny_resume(copy, max_steps=19)
    after = metric_rows(copy)
    assert after[: len(before)] == before
    assert list(after[-1]) == list(before[0])
    assert max(filled(after, "val/aer")) == 19
    assert all(None not in row and None not in row.values() for row in after)


def test_what_a_run_needs_to_be_used_is_written_again(copy: Path) -> None:
    before = (copy / "tokenizers.json").read_bytes()
    (copy / "tokenizers.json").unlink()
    tiny_resume(copy, max_steps=12)
    assert (copy / "tokenizers.json").read_bytes() == before


def test_a_run_that_is_running_is_refused(copy: Path) -> None:
    with RunFolder(copy).held():
        refused(copy, r"is still being run by process \d+ on .+", max_steps=19)
    tiny_resume(copy, max_steps=12)
    assert markers(copy) == ["DONE"]


def test_a_failure_in_the_second_part_is_one(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (copy / "metrics.csv").unlink()
    with pressing(2), pytest.raises(Interrupted, match="stopped after step 13"):
        tiny_resume(copy, max_steps=19)
    assert markers(copy) == ["INTERRUPTED"]
    # A file that was taken away begins anew.
    assert filled(metric_rows(copy), "step") == {}
    tiny_resume(copy)
    assert list(filled(metric_rows(copy), "train/loss")) == [15, 19]


@pytest.mark.slow
def test_time_is_counted_over_all_parts(tmp_path: Path) -> None:
    path = tmp_path / "run"
    timed = ("trainer.max_steps=-1", "trainer.max_time=00:00:00:03", "trainer.val_check_interval=10000")
    with pressing(20), pytest.raises(Interrupted):
        tiny_run(path, *TINY, *timed, "scheduler=inverse_square_root")
    stopped = checkpoint(path, "last")
    first = stopped["callbacks"]["Timer"]["time_elapsed"]["train"]
    assert 0 < first < 3
    results = tiny_resume(path)
    assert markers(path) == ["DONE"]
    last = checkpoint(path, "last")
    assert 3 <= last["callbacks"]["Timer"]["time_elapsed"]["train"] < 4
    assert results["train/steps"] == last["global_step"] > stopped["global_step"] == 20
    seconds = max(float(row["seconds"]) for row in metric_rows(path))
    assert 3 <= seconds < 5
    refused(path, r"it has reached trainer\.max_time=00:00:00:03")
    # Stopped where only scoring is left: no step is added.
    with pressing(1, hook="test_step", final=True), pytest.raises(Interrupted):
        tiny_resume(path, max_time="00:00:00:04")
    steps = checkpoint(path, "last")["global_step"]
    assert tiny_resume(path)["train/steps"] == steps > last["global_step"]


def test_a_cosine_falls_towards_the_new_end(tmp_path: Path) -> None:
    path = tmp_path / "run"
    cosine = (
        "scheduler.warmup_steps=2",
        "scheduler.final_ratio=0",
        "trainer.log_every_n_steps=1",
        "callbacks.patterns.sentences=0",
    )
    tiny_run(path, *STEPS[1:], *cosine, "trainer.max_steps=6")
    tiny_resume(path, max_steps=10)
    rates = filled(metric_rows(path), "train/learning_rate")

    def rate(step: int, end: int) -> float:
        return 2e-3 * (step / 2 if step <= 2 else 0.5 * (1 + math.cos(math.pi * (step - 3) / (end - 2))))

    assert rates == pytest.approx({step: rate(step, 6 if step <= 6 else 10) for step in range(1, 11)})
