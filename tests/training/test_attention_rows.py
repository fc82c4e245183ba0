"""What a run asks of the rows of its attention, and what it writes down of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from tiny_run import filled, metric_rows, tiny_run, tiny_settings

from attnframe import UserError
from attnframe.model import SITES
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


@pytest.mark.parametrize(
    ("chosen", "asked", "says"),
    [
        ("attention=sparsemax", "optimizer.z_loss_weight=0.5", "encoder_self: sparsemax has a normaliser in the place"),
        ("attention@cross=linear", "callbacks.max_score.threshold=100", "cross: linear computes its attention itself"),
        (
            "layers.decoder_self=[multi_head,sigmoid]",
            "optimizer.entropy_weight=-0.5",
            "decoder_self: sigmoid has a normaliser",
        ),
    ],
)
def test_a_variant_without_a_softmax_is_refused(chosen: str, asked: str, says: str) -> None:
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


@pytest.mark.slow
def test_entropy_goes_where_its_weight_drives_it(plain: Path, tmp_path: Path) -> None:
    column = "train/attention_entropy"
    entropy = {}
    # The smallest weight is there to have the column.
    for weight in (-3.0, 1e-30, 3.0):
        path = tmp_path / f"run{weight}"
        tiny_run(path, *STEPS, *FAST, *QUIET, f"optimizer.entropy_weight={weight}")
        rows = metric_rows(path)
        assert {*COLUMNS} & rows[0].keys() == {column}
        entropy[weight] = filled(rows, column)
        assert list(entropy[weight]) == [7, 14]
        # The loss of the task, without what is added to it: up to 6 here.
        assert filled(rows, "train/loss")[14] == pytest.approx(filled(metric_rows(plain), "train/loss")[14], abs=1.0)
    assert entropy[-3.0][14] > entropy[1e-30][14] + 0.01
    assert entropy[3.0][14] < entropy[1e-30][14] - 0.01


def test_a_watch_changes_no_bit_of_a_run(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "run"
    tiny_run(path, *STEPS, *FAST, *QUIET, "callbacks.max_score.threshold=0.7")
    assert untimed(path, *COLUMNS) == untimed(plain)
    weights = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (path, plain)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    rows = metric_rows(path)
    greatest = {site: filled(rows, f"train/max_score/{site}") for site in SITES}
    above = filled(rows, "train/heads_above_threshold")
    for step in (7, 14):
        # Two heads in each of two layers of a site.
        over = sum(of_steps[step] > 0.7 for of_steps in greatest.values())
        assert over <= above[step] <= 4 * over
        assert over


@pytest.mark.slow
def test_the_z_loss_keeps_the_log_sum_exp_small(tmp_path: Path) -> None:
    squares = {}
    for weight in (1e-30, 1.0):
        path = tmp_path / f"run{weight}"
        tiny_run(path, *STEPS, *FAST, *QUIET, f"optimizer.z_loss_weight={weight}")
        squares[weight] = filled(metric_rows(path), "train/attention_z_loss")[14]
    assert squares[1.0] < squares[1e-30] - 0.1


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_with_accumulated_batches_in_other_precisions(tmp_path: Path, precision: str) -> None:
    more = ("optimizer.entropy_weight=0.1", "optimizer.z_loss_weight=0.01", "callbacks.max_score.threshold=0.7")
    few = ("trainer.max_steps=4", "trainer.log_every_n_steps=2", "trainer.accumulate_grad_batches=2")
    path = tmp_path / "run"
    tiny_run(path, *few, *QUIET, *more, f"trainer.precision={precision}")
    rows = metric_rows(path)
    for column in COLUMNS:
        assert list(filled(rows, column)) == [2, 4]
