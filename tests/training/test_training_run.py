"""Whole runs: what they write down must be what happened."""

from __future__ import annotations

import json
import math
import signal
import time
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pytest
import torch
from PIL import Image
from tiny_run import filled, metric_rows, tiny_data, tiny_run
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, register_attention
from attnframe.data.batching import collate
from attnframe.data.tokenizer import BOS, EOS
from attnframe.data.words import split_words
from attnframe.model import SITES, AttentionFactory, Seq2Seq, VariantChoice
from attnframe.patterns import record_patterns
from attnframe.training.interruption import Interrupted
from attnframe.training.pattern_snapshots import PatternSnapshots
from attnframe.training.run import RunFailed
from attnframe.training.task import TranslationTask

# The last step is no multiple of the interval, and neither is it one of the logged steps.
STEPS = ("trainer.max_steps=23", "trainer.val_check_interval=10", "trainer.log_every_n_steps=5")
TIME_COLUMNS = ("seconds", "train/tokens_per_second")

# Before any run; a shell starts what is to run in the background with Ctrl-C ignored.
CTRL_C = signal.getsignal(signal.SIGINT)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("first") / "run"
    tiny_run(path, *STEPS)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run"


def results_of(path: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((path / "results.json").read_text(encoding="utf-8"))
    return results


def checkpoint(path: Path, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(path / "checkpoints" / f"{name}.ckpt", weights_only=True)
    return loaded


def markers(path: Path) -> list[str]:
    return [name for name in ("DONE", "FAILED", "INTERRUPTED") if (path / name).exists()]


def test_rows_at_every_interval_at_each_validation_and_at_the_end(first: Path) -> None:
    rows = metric_rows(first)
    assert list(filled(rows, "train/loss")) == [5, 10, 15, 20, 23]
    assert list(filled(rows, "val/loss")) == [10, 20, 23]
    steps = [int(row["step"]) for row in rows]
    assert steps == sorted(steps)
    seconds = [float(row["seconds"]) for row in rows]
    assert seconds == sorted(seconds)
    for row in rows:
        train = [bool(value) for name, value in row.items() if name.startswith("train/")]
        val = [bool(value) for name, value in row.items() if name.startswith("val/")]
        assert (all(train) and not any(val)) or (all(val) and not any(train))


def test_the_learning_rate_of_a_row_is_that_of_its_step(first: Path) -> None:
    rates = filled(metric_rows(first), "train/learning_rate")
    assert rates == pytest.approx({step: 2e-3 * step / 100 for step in (5, 10, 15, 20, 23)})


def test_rows_come_at_least_every_fifty_steps(path: Path) -> None:
    tiny_run(
        path,
        "trainer.max_steps=60",
        "trainer.val_check_interval=55",
        "trainer.log_every_n_steps=200",
        "callbacks.patterns.sentences=0",
        "callbacks.patterns.statistics=0",
    )
    assert list(filled(metric_rows(path), "train/loss")) == [50, 60]
    assert list(filled(metric_rows(path), "val/loss")) == [55, 60]
    assert not (path / "patterns").exists()


def test_accumulated_batches_are_one_step(path: Path) -> None:
    results = tiny_run(
        path,
        "trainer.accumulate_grad_batches=2",
        "trainer.max_steps=6",
        "trainer.log_every_n_steps=2",
        "callbacks.patterns.sentences=0",
    )
    train = [row for row in metric_rows(path) if row["train/loss"]]
    assert [row["step"] for row in train] == ["2", "4", "6"]
    assert all(row["train/grad_norm"] for row in train)
    assert results["train/steps"] == 6


def test_last_is_the_state_after_the_last_step(first: Path) -> None:
    last = checkpoint(first, "last")
    assert last["global_step"] == 23
    assert {float(state["step"]) for state in last["optimizer_states"][0]["state"].values()} == {23.0}
    assert last["lr_schedulers"][0]["last_epoch"] == 23
    assert results_of(first)["train/steps"] == 23


def test_best_is_the_validated_step_with_the_lowest_loss(first: Path, path: Path) -> None:
    # So high a rate that each step makes the model worse, whatever the rounding.
    tiny_run(path, *STEPS, "optimizer.lr=30.0", "scheduler.warmup_steps=60")
    for run, best_is_last in ((first, True), (path, False)):
        losses = filled(metric_rows(run), "val/loss")
        step = min(losses, key=lambda step: losses[step])
        assert (step == 23) is best_is_last
        assert checkpoint(run, "best")["global_step"] == step
        assert results_of(run)["train/best_step"] == step
        # What is reported is the best state, evaluated anew.
        assert results_of(run)["val/loss"] == losses[step]
    weights = [checkpoint(path, name)["state_dict"]["model.decoder_norm.weight"] for name in ("best", "last")]
    assert not torch.equal(*weights)


def test_the_same_seed_gives_the_same_numbers_to_the_last_bit(first: Path, path: Path) -> None:
    tiny_run(path, *STEPS)
    one, other = metric_rows(first), metric_rows(path)
    for rows in (one, other):
        for row in rows:
            for column in TIME_COLUMNS:
                del row[column]
    assert one == other
    for name in ("last", "best"):
        weights, again = checkpoint(first, name)["state_dict"], checkpoint(path, name)["state_dict"]
        assert weights.keys() == again.keys()
        assert all(torch.equal(weights[key], again[key]) for key in weights)
    assert (first / "predictions.tsv").read_bytes() == (path / "predictions.tsv").read_bytes()
    timed = {"train/seconds", "train/tokens_per_second", "train/peak_memory_bytes"}
    assert {k: v for k, v in results_of(first).items() if k not in timed} == {
        k: v for k, v in results_of(path).items() if k not in timed
    }


def test_another_seed_gives_other_numbers(first: Path, path: Path) -> None:
    tiny_run(path, *STEPS, "seed=2")
    one, other = metric_rows(first), metric_rows(path)
    assert not set(filled(one, "train/loss").values()) & set(filled(other, "train/loss").values())
    # The data have a seed of their own.
    manifests = [json.loads((run / "manifest.json").read_text(encoding="utf-8")) for run in (first, path)]
    assert manifests[0]["data"]["hash"] == manifests[1]["data"]["hash"] == tiny_data().corpus.hash()
    assert [manifest["seed"] for manifest in manifests] == [1, 2]


def test_drawn_patterns_are_those_of_the_model(first: Path) -> None:
    assert sorted(folder.name for folder in (first / "patterns").glob("step_*")) == [
        "step_000010",
        "step_000020",
        "step_000023",
    ]
    assert {picture.parent.name for picture in (first / "patterns").rglob("*.png")} == {"step_000023"}
    data = tiny_data()
    choices = {site: (VariantChoice("multi_head"),) * 2 for site in SITES}
    model = Seq2Seq(
        src_vocab_size=len(data.src_tokenizer),
        tgt_vocab_size=len(data.tgt_tokenizer),
        attention=AttentionFactory(choices=choices, d_model=32, encoder_d_model=32, num_heads=2, backend="eager"),
        num_encoder_layers=2,
        num_decoder_layers=2,
        d_ff=48,
        dropout=0.1,
    ).eval()
    state = {k.removeprefix("model."): v for k, v in checkpoint(first, "last")["state_dict"].items()}
    model.load_state_dict(state)
    pairs = data.corpus.sets["val"]
    drawn: list[set[str]] = []
    for index in range(3):
        arrays = np.load(first / "patterns" / "step_000023" / f"sentence_{index}.npz")
        source = arrays["encoder_self/query_labels"].tolist()
        (pair,) = [pair for pair in pairs if [*split_words(pair.source), "<eos>"] == source]
        assert (str(arrays["source"]), str(arrays["target"])) == (pair.source, pair.target)
        assert pair.alignment is not None
        for name, links in (("sure", pair.alignment.sure), ("possible", pair.alignment.possible)):
            assert {tuple(link) for link in arrays[f"gold/{name}"].tolist()} == links
        drawn.append(set(pair.tags))
        said = [*split_words(pair.target), "<eos>"]
        target = ["<bos>", *said[:-1]]
        src = torch.tensor([[*data.src_tokenizer.encode(pair.source), EOS]])
        tgt = torch.tensor([[BOS, *data.tgt_tokenizer.encode(pair.target)]])
        with torch.no_grad(), record_patterns(model) as patterns:
            model(src, None, tgt)
        labels = {"encoder_self": (source, source), "decoder_self": (target, target), "cross": (said, source)}
        for site, (queries, keys) in labels.items():
            assert arrays[f"{site}/query_labels"].tolist() == queries
            assert arrays[f"{site}/key_labels"].tolist() == keys
            for layer in range(2):
                found = arrays[f"{site}/layer_{layer}"]
                assert found.shape == (2, len(queries), len(keys))
                assert str(arrays[f"{site}/layer_{layer}/kind"]) == "probability"
                assert_close(torch.from_numpy(found), patterns[site, layer].weights[0], rtol=0, atol=2e-6)
            picture = first / "patterns" / "step_000023" / f"sentence_{index}_{site}.png"
            with Image.open(picture) as image:
                image.load()
                assert image.format == "PNG"
                assert len(image.convert("L").getcolors(256) or range(256)) > 5
        assert not np.triu(arrays["decoder_self/layer_0"][0], k=1).any()
    # The sentence with the most tags, then each time one that no other would add more new tags than.
    for index, tags in enumerate(drawn):
        shown = set().union(*drawn[:index])
        assert len(tags - shown) == max(len(set(pair.tags) - shown) for pair in pairs)


def test_snapshots_are_limited_but_the_last_state_is_drawn(path: Path) -> None:
    tiny_run(
        path,
        *STEPS,
        "layers.cross=[self,multi_head]",
        "callbacks.patterns.max_snapshots=1",
        "callbacks.patterns.sentences=2",
    )
    assert sorted(folder.name for folder in (path / "patterns").glob("step_*")) == ["step_000010", "step_000023"]
    assert len(list((path / "patterns").rglob("*.npz"))) == 4
    arrays = np.load(path / "patterns" / "step_000023" / "sentence_0.npz")
    assert [arrays[f"cross/layer_{layer}"].shape[0] for layer in range(2)] == [1, 2]


@pytest.mark.slow
def test_drawing_and_validating_is_no_training_time(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    take = PatternSnapshots.take

    def slow_take(self: PatternSnapshots, *arguments: Any) -> None:
        time.sleep(1)
        take(self, *arguments)

    monkeypatch.setattr(PatternSnapshots, "take", slow_take)
    results = tiny_run(path, "trainer.max_steps=12", "trainer.val_check_interval=5", "callbacks.patterns.sentences=1")
    elapsed = [float(row["seconds"]) for row in metric_rows(path) if row["step"] == "12"]
    assert elapsed[0] > 2
    assert 0 < results["train/seconds"] <= elapsed[0] - 2
    # The twelve batches are three epochs: every sentence is counted once in each, and nothing else.
    assert len(tiny_data().train_dataloader()) == 4
    lengths = [len(split_words(pair.target)) + 1 for pair in tiny_data().corpus.sets["train"]]
    tokens = results["train/tokens_per_second"] * results["train/seconds"]
    assert tokens == pytest.approx(3 * sum(lengths), rel=1e-6)


@pytest.mark.parametrize(
    "monitor",
    ["val/loss", *(pytest.param(name, marks=pytest.mark.slow) for name in ("val/exact_match", "val/aer_mean_heads"))],
)
def test_early_stopping_stops(path: Path, monitor: str) -> None:
    results = tiny_run(
        path,
        "optimizer.lr=1e-30",  # nothing ever gets better
        "trainer.max_steps=40",
        "trainer.val_check_interval=2",
        "callbacks.early_stopping.patience=2",
        f"callbacks.early_stopping.monitor={monitor}",
        "callbacks.patterns.sentences=0",
    )
    assert results["train/steps"] == 6
    assert results["train/seconds"] > 0
    assert results["train/tokens_per_second"] > 0
    assert list(filled(metric_rows(path), "val/loss")) == [2, 4, 6]
    assert list(filled(metric_rows(path), "train/loss")) == [5, 6]
    assert checkpoint(path, "last")["global_step"] == 6
    assert markers(path) == ["DONE"]


def test_a_run_may_end_by_time(path: Path) -> None:
    start = time.perf_counter()
    results = tiny_run(
        path,
        "trainer.max_steps=-1",
        "trainer.max_time=00:00:00:02",
        "trainer.val_check_interval=1000",
        "trainer.log_every_n_steps=1000",
        "scheduler=inverse_square_root",
        "callbacks.patterns.sentences=0",
    )
    assert time.perf_counter() - start < 20
    steps = results["train/steps"]
    rows = metric_rows(path)
    assert 1 < results["train/seconds"] < 6
    assert list(filled(rows, "val/loss")) == [steps]
    assert max(filled(rows, "train/loss")) == steps
    assert checkpoint(path, "last")["global_step"] == checkpoint(path, "best")["global_step"] == steps
    rates = filled(rows, "train/learning_rate")
    assert rates == pytest.approx({step: 2e-3 * min(step / 200, math.sqrt(200 / step)) for step in rates})


def test_a_cosine_needs_an_end(path: Path) -> None:
    with pytest.raises(UserError, match="scheduler=inverse_square_root"):
        tiny_run(path, "trainer.max_steps=-1", "trainer.max_time=00:00:00:02")
    assert markers(path) == ["FAILED"]
    assert "Traceback" not in (path / "error.txt").read_text(encoding="utf-8")


def test_a_run_by_epochs_sees_each_sentence_once_an_epoch(path: Path) -> None:
    results = tiny_run(
        path,
        "trainer.max_steps=-1",
        "trainer.max_epochs=2",
        "trainer.val_check_interval=null",
        "callbacks.patterns.sentences=0",
    )
    lengths = [len(split_words(pair.target)) + 1 for pair in tiny_data().corpus.sets["train"]]
    assert results["train/tokens_per_second"] * results["train/seconds"] == pytest.approx(2 * sum(lengths), rel=1e-6)
    losses = filled(metric_rows(path), "val/loss")
    assert len(losses) == 2
    assert max(losses) == results["train/steps"]


def test_a_run_that_diverges_ends_with_results(path: Path) -> None:
    results = tiny_run(path, *STEPS, "optimizer.lr=1e30", "trainer.gradient_clip_val=null")
    assert math.isnan(results["val/loss"])
    assert math.isnan(results["test/loss"])
    assert math.isnan(results["test/aer"])
    assert results["test/exact_match"] == 0
    assert markers(path) == ["DONE"]
    assert checkpoint(path, "last")["global_step"] == 23
    assert checkpoint(path, "best")["global_step"] == 10
    assert len((path / "predictions.tsv").read_text(encoding="utf-8").splitlines()) == 1 + 11 + 3 * 7


def test_checkpoints_hold_plain_data(first: Path) -> None:
    for name in ("last", "best"):
        loaded = checkpoint(first, name)
        assert "hyper_parameters" not in loaded
        assert set(loaded["callbacks"]["Checkpoints"]) == {"best_loss", "best_step"}
    state = checkpoint(first, "last")["state_dict"]
    parameters = sum(value.numel() for value in state.values())
    assert parameters == results_of(first)["parameters"]


def test_a_variant_that_breaks_fails_the_run(path: Path) -> None:
    @register_attention("breaks_later")
    class BreaksLater(Attention):
        """The query, four times."""

        calls = 0

        def __init__(self, d_model: int) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(d_model))

        def forward(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Mask) -> torch.Tensor:
            if self.training and query.numel() and query.device.type != "meta":
                BreaksLater.calls += 1
                if BreaksLater.calls > 8:
                    raise RuntimeError("the idea was wrong")
            return query * self.weight

    with pytest.raises(RunFailed, match=r"RuntimeError: the idea was wrong; .*error\.txt"):
        tiny_run(path, "attention=breaks_later")
    assert markers(path) == ["FAILED"]
    text = (path / "error.txt").read_text(encoding="utf-8")
    assert text.startswith("Traceback")
    assert "in forward" in text
    assert not (path / "results.json").exists()


def test_handlers_of_signals_are_put_back(first: Path) -> None:
    assert signal.getsignal(signal.SIGINT) is CTRL_C
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize("phase", ["validation", "test"])
def test_an_interruption_after_training_loses_nothing(path: Path, monkeypatch: pytest.MonkeyPatch, phase: str) -> None:
    """Ctrl-C while the trained model is scored: nothing goes on as if nobody had pressed it."""
    pressed = []
    step = getattr(TranslationTask, f"{phase}_step")

    def press_then_step(self: TranslationTask, *arguments: Any) -> None:
        if self.trainer.state.fn != "fit" and not pressed:
            pressed.append(True)
            signal.raise_signal(signal.SIGINT)
        step(self, *arguments)

    monkeypatch.setattr(TranslationTask, f"{phase}_step", press_then_step)
    with pytest.raises(Interrupted, match="stopped after step 23"):
        tiny_run(path, *STEPS, "callbacks.patterns.sentences=0")
    assert pressed
    assert markers(path) == ["INTERRUPTED"]
    assert checkpoint(path, "last")["global_step"] == 23
    assert not (path / "results.json").exists()
    assert signal.getsignal(signal.SIGINT) is CTRL_C


def test_collated_batches_arrive_whole(first: Path) -> None:
    """Lightning moves our batches as they are: it knows nothing of them."""
    batch = collate(tiny_data().encode(tiny_data().corpus.sets["val"]))
    moved = L.LightningModule().transfer_batch_to_device(batch, torch.device("cpu"), 0)
    assert torch.equal(moved.src, batch.src)


@pytest.mark.parametrize(
    "ending",
    [
        ("trainer.max_steps=50", "callbacks.early_stopping.patience=2", "optimizer.lr=1e-12"),
        ("trainer.max_steps=-1", "trainer.max_epochs=2"),
    ],
)
def test_the_last_state_is_recorded_however_the_run_ends(path: Path, ending: tuple[str, ...]) -> None:
    results = tiny_run(path, "trainer.val_check_interval=1", "callbacks.patterns.max_snapshots=1", *ending)
    assert results["train/steps"] > 1
    last = path / "patterns" / f"step_{results['train/steps']:06d}"
    assert len(list(last.glob("sentence_*.npz"))) == 3
