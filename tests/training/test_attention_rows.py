"""What a run asks of the rows of its attention, and what it writes down of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from tiny_run import filled, metric_rows, tiny_resume, tiny_run, tiny_settings

from attnframe import UserError
from attnframe.runs.building import attention_factory
from attnframe.training.attention_rows import COLUMNS, AttentionRows

QUIET = ("callbacks.patterns.sentences=0", "callbacks.patterns.statistics=0")
STEPS = ("trainer.max_steps=14", "trainer.val_check_interval=50", "trainer.log_every_n_steps=7")
FAST = ("optimizer.lr=0.01", "scheduler.warmup_steps=1")
TIMED = ("seconds", "train/tokens_per_second")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"entropy_weight": float("nan")}, r"optimizer\.entropy_weight=nan must be a number: above 0 to sharpen .*"),
        ({"z_loss_weight": -0.1}, r"optimizer\.z_loss_weight=-0\.1 must be 0 or a number above it: .*"),
        ({"z_loss_weight": float("inf")}, r"optimizer\.z_loss_weight=inf must be .*"),
        ({"threshold": 0.0}, r"callbacks\.max_score\.threshold=0 must be a number above 0, or null to watch nothing"),
        ({"threshold": float("nan")}, r"callbacks\.max_score\.threshold=nan must be .*"),
    ],
)
def test_what_cannot_be_is_said_in_a_sentence(given: dict[str, float], says: str) -> None:
    with pytest.raises(UserError) as refused:
        AttentionRows(**given)
    assert re.fullmatch(says, str(refused.value))


@pytest.mark.parametrize("asked", ["optimizer.entropy_weight=-0.5", "callbacks.max_score.threshold=100"])
@pytest.mark.parametrize(
    ("chosen", "says"),
    [
        ("attention=sparsemax", "encoder_self: sparsemax has a normaliser in the place of the softmax"),
        ("attention@cross=linear", "cross: linear computes its attention itself"),
        ("layers.decoder_self=[multi_head,sigmoid]", "decoder_self: sigmoid has a normaliser"),
    ],
)
def test_a_variant_without_a_softmax_is_refused(chosen: str, says: str, asked: str) -> None:
    settings = tiny_settings(chosen, asked)
    with pytest.raises(UserError) as refused:
        AttentionRows.of(settings).check(attention_factory(settings))
    sentence = str(refused.value)
    assert sentence.startswith(says)
    assert f": {asked} needs a variant with a softmax" in sentence
    settings = tiny_settings(chosen)
    AttentionRows.of(settings).check(attention_factory(settings))


def test_settings_of_an_older_version_ask_for_nothing() -> None:
    rows = AttentionRows.of({"optimizer": {"label_smoothing": 0.1}, "callbacks": {"patterns": {}}})
    assert (rows.asked, rows.columns) == ([], ())
    with rows.recording(torch.nn.Linear(2, 3)) as recorded:
        assert recorded is None


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("plain") / "run"
    tiny_run(path, *STEPS, *FAST, *QUIET)
    return path


def untimed(path: Path, *without: str) -> list[dict[str, str]]:
    return [{key: row[key] for key in row if key not in (*TIMED, *without)} for row in metric_rows(path)]


def test_entropy_goes_where_its_weight_drives_it(plain: Path, tmp_path: Path) -> None:
    column = "train/attention_entropy"
    entropy = {}
    # The smallest weight is there to have the column.
    for weight in (-3.0, 1e-30, 3.0):
        path = tmp_path / f"run{weight}"
        tiny_run(path, *STEPS, *FAST, *QUIET, f"optimizer.entropy_weight={weight}")
        rows = metric_rows(path)
        assert not set(COLUMNS) - {column} & rows[0].keys()
        entropy[weight] = filled(rows, column)
        assert list(entropy[weight]) == [7, 14]
        loss = filled(rows, "train/loss")
        if abs(weight) < 1:
            assert untimed(path, column) == untimed(plain)
        else:
            # It is the loss of the task, of which the added term is no part: with 3 it would be twice as large.
            assert loss[14] == pytest.approx(filled(metric_rows(plain), "train/loss")[14], abs=1.0)
    assert entropy[-3.0][14] > entropy[1e-30][14] + 0.01
    assert entropy[3.0][14] < entropy[1e-30][14] - 0.01


def test_the_z_loss_keeps_the_log_sum_exp_small_and_a_watch_changes_no_bit(plain: Path, tmp_path: Path) -> None:
    squares = {}
    for weight in (1e-30, 1.0):
        path = tmp_path / f"run{weight}"
        watched = ["callbacks.max_score.threshold=0.7"]
        tiny_run(path, *STEPS, *FAST, *QUIET, *watched, f"optimizer.z_loss_weight={weight}")
        rows = metric_rows(path)
        squares[weight] = filled(rows, "train/attention_z_loss")[14]
        greatest = [filled(rows, f"train/max_score/{site}")[14] for site in ("encoder_self", "decoder_self", "cross")]
        above = filled(rows, "train/heads_above_threshold")[14]
        assert (above > 0) == (max(greatest) > 0.7)
        assert above <= 12
    assert squares[1.0] < squares[1e-30] - 0.1
    # With the smallest weight only the watch is left.
    assert untimed(tmp_path / "run1e-30", *COLUMNS) == untimed(plain)


@pytest.mark.slow
def test_a_stopped_run_goes_on_with_what_it_has_watched(tmp_path: Path) -> None:
    more = (
        "callbacks.max_score.threshold=0.7",
        "optimizer.entropy_weight=0.1",
        "scheduler=inverse_square_root",
        *QUIET,
    )
    whole, part = tmp_path / "whole", tmp_path / "part"
    tiny_run(
        whole, "trainer.max_steps=22", "trainer.val_check_interval=8", "trainer.log_every_n_steps=11", *QUIET, *more
    )
    tiny_run(part, "trainer.max_steps=8", "trainer.val_check_interval=8", "trainer.log_every_n_steps=11", *QUIET, *more)
    tiny_resume(part, max_steps=22)
    expected = [row for row in untimed(whole) if int(row["step"]) > 8]
    assert [row for row in untimed(part) if int(row["step"]) > 8] == expected
    assert any(row["train/max_score/cross"] for row in expected)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_with_accumulated_batches_in_other_precisions(tmp_path: Path, precision: str) -> None:
    more = ("optimizer.entropy_weight=0.1", "optimizer.z_loss_weight=0.01", "callbacks.max_score.threshold=0.7")
    path = tmp_path / "run"
    tiny_run(path, *STEPS, *QUIET, *more, f"trainer.precision={precision}", "trainer.accumulate_grad_batches=2")
    rows = metric_rows(path)
    for column in COLUMNS:
        assert list(filled(rows, column)) == [7, 14]
