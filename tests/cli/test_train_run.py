"""One real run, and everything that it must leave behind."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_fixtures import home, train  # noqa: F401
from command_line import SMALL, Finished, PreparedCommand, markers, run_folders
from PIL import Image
from wandb_file import WandbRun, read_wandb_run

from attnframe.data.grammar import load
from attnframe.data.schema import Corpus
from attnframe.model import SITES

NAMES = ("test", "unseen_pairs", "composition", "longer")
AERS = ("aer", "aer_norms", "aer_mean_heads", "aer_diagonal", "aer_perfect", "aer_soft")
SCORES = ("loss", "bleu", "chrf", "exact_match", *AERS, "alignment_precision", "alignment_recall")


@dataclass(frozen=True)
class Left:
    """What the run left."""

    finished: Finished
    path: Path
    results: dict[str, Any]
    manifest: dict[str, Any]
    wandb: WandbRun


@pytest.fixture(scope="module")
def left(train: PreparedCommand, tmp_path_factory: pytest.TempPathFactory) -> Left:  # noqa: F811
    cwd = tmp_path_factory.mktemp("run")
    finished = train("train", *SMALL, "logger=[wandb,csv]", "name=whole", cwd=cwd)
    assert finished.status == 0, finished.stderr
    (path,) = run_folders(cwd)
    (wandb_file,) = path.rglob("*.wandb")
    results, manifest = (json.loads((path / name).read_text("utf-8")) for name in ("results.json", "manifest.json"))
    return Left(finished, path, results, manifest, read_wandb_run(wandb_file))


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return load(train_size=400, val_size=20, test_size=20, held_out_size=20)


def predictions(path: Path) -> list[dict[str, str]]:
    with (path / "predictions.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.mark.slow
def test_it_says_where_it_is_and_nothing_on_stderr(left: Left) -> None:
    assert left.finished.stderr == ""
    first, *rest = left.finished.stdout.splitlines()
    assert first == f"run folder: {left.path.relative_to(left.path.parents[2])}"
    assert left.path.parent.name == "whole"
    assert [line.split("\t")[0] for line in rest[1:5]] == list(NAMES)
    run = left.path.relative_to(left.path.parents[2])
    assert rest[-2:] == [f"patterns: {run / 'patterns'}", f"report: {run / 'report.html'}"]


def test_the_folder_is_complete(left: Left) -> None:
    names = {file.name for file in left.path.iterdir()}
    assert names >= {
        ".hydra",
        "train.log",
        "manifest.json",
        "metrics.csv",
        "results.json",
        "sentence_statistics.npz",
        "checkpoints",
        "patterns",
        "predictions.tsv",
        "report.html",
        "wandb",
    }
    assert markers(left.path) == ["DONE"]
    files = [file for file in left.path.rglob("*") if file.is_file() and not file.is_symlink()]
    # W&B's background service, a process of its own, closes its files when it likes.
    written = [file for file in files if "wandb" not in file.relative_to(left.path).parts]
    assert (left.path / "DONE").stat().st_mtime_ns == max(file.stat().st_mtime_ns for file in written)
    assert {file.name for file in (left.path / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    assert "max_steps: 20" in (left.path / ".hydra" / "config.yaml").read_text()
    assert not any(".partial" in name for name in names)


def test_results_are_flat_and_complete(left: Left) -> None:
    results = left.results
    assert all(value is None or isinstance(value, int | float | str) for value in results.values())
    for name in NAMES:
        prefix = "test/" if name == "test" else f"test/{name}/"
        for score in SCORES:
            assert math.isfinite(results[prefix + score])
        assert 0 <= results[f"{prefix}aer_perfect"] < results[f"{prefix}aer_diagonal"] < 1
    for key in ("val/loss", "train/tokens_per_second", "train/seconds"):
        assert results[key] > 0
    assert "train/steps_to_95" in results
    assert results["train/steps_to_95"] is None
    assert (results["seed"], results["variant"], results["backend"], results["train/steps"]) == (
        1,
        "multi_head",
        "sdpa",
        20,
    )
    state = torch.load(left.path / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    assert results["parameters"] == sum(value.numel() for value in state.values())


def test_every_test_sentence_is_predicted_once(left: Left, corpus: Corpus) -> None:
    found = predictions(left.path)
    assert list(found[0]) == ["id", "set", "source", "reference", "hypothesis", "tags"]
    expected = [
        (pair.id, name, pair.source, pair.target, ",".join(pair.tags)) for name in NAMES for pair in corpus.sets[name]
    ]
    assert [(row["id"], row["set"], row["source"], row["reference"], row["tags"]) for row in found] == expected
    assert len({row["id"] for row in found}) == len(found) == 80
    for name in NAMES:
        rows = [row for row in found if row["set"] == name]
        share = sum(row["hypothesis"] == row["reference"] for row in rows) / len(rows)
        assert left.results["test/exact_match" if name == "test" else f"test/{name}/exact_match"] == share


def test_no_test_sentence_was_trained_on(left: Left, corpus: Corpus) -> None:
    trained = {pair.source for pair in corpus.sets["train"]}
    seen = {pair.source for pair in corpus.sets["val"]}
    assert len(trained) == 400
    tested = {row["source"] for row in predictions(left.path)}
    assert len(tested) == 80
    assert not tested & (trained | seen)
    assert not trained & seen


@pytest.mark.slow
def test_no_test_sentence_of_the_default_data_was_trained_on() -> None:
    whole = load()
    trained = {pair.source for pair in whole.sets["train"]}
    assert len(trained) == 24_000
    for name, pairs in whole.sets.items():
        if name != "train":
            assert len({pair.source for pair in pairs} - trained) == len(pairs) >= 1_000


def test_the_manifest_says_what_ran(left: Left, corpus: Corpus) -> None:
    manifest = left.manifest
    assert manifest["versions"]["torch"] == torch.__version__
    assert {"python", "attnframe", "lightning", "hydra-core", "wandb", "sacrebleu"} <= set(manifest["versions"])
    assert manifest["data"]["hash"] == corpus.hash()
    assert manifest["data"]["sizes"] == {name: len(pairs) for name, pairs in corpus.sets.items()}
    assert (manifest["device"], manifest["seed"], manifest["threads"]) == ("cpu", 1, 1)
    assert manifest["parameters"] == left.results["parameters"]
    assert set(manifest["backends"]) == set(SITES)
    for entry in manifest["backends"].values():
        assert entry["backend"] == "sdpa"
        assert all(reasons and all(reasons) for reasons in entry["passed_over"].values())
    assert manifest["wandb_id"] == left.wandb.run_id != ""
    assert "git" in manifest


def test_metrics_are_there_by_step(left: Left) -> None:
    with (left.path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows if row["train/loss"]] == ["5", "10", "15", "20"]
    assert [row["step"] for row in rows if row["val/loss"]] == ["10", "20"]
    assert float(rows[-1]["val/loss"]) < float(next(row["val/loss"] for row in rows if row["val/loss"]))


def test_patterns_are_distributions_over_the_labels(left: Left) -> None:
    files = sorted((left.path / "patterns").rglob("*.npz"))
    assert len(files) == 6
    for file in files:
        arrays = np.load(file)
        for site in SITES:
            queries, keys = arrays[f"{site}/query_labels"], arrays[f"{site}/key_labels"]
            for layer in range(2):
                weights = arrays[f"{site}/layer_{layer}"]
                assert weights.shape == (2, len(queries), len(keys))
                np.testing.assert_allclose(weights.sum(-1), 1, rtol=0, atol=1e-5)
                assert (weights >= 0).all()
                assert arrays[f"{site}/layer_{layer}/contributions"].shape == weights.shape
            if file.parent.name == "step_000010":
                continue  # only the last state is drawn
            with Image.open(file.with_name(f"{file.stem}_{site}.png")) as image:
                image.load()
                assert min(image.size) > 100


def test_the_wandb_file_holds_the_nested_config(left: Left) -> None:
    config = left.wandb.config
    assert left.wandb.name == "whole"
    assert config["model"]["d_model"] == 32
    assert config["model"]["encoder"] == {"d_model": None, "num_layers": None}
    assert config["attention"] == {
        "name": "multi_head",
        **{"rope": False, "rope_base": 10000.0, "qk_norm": False, "softcap": None},
    }
    assert config["optimizer"]["betas"] == [0.9, 0.98]
    assert config["logger"]["wandb"]["project"] == "attnframe"
    assert config["data"]["train_size"] == 400


def test_the_wandb_file_mirrors_the_metrics(left: Left) -> None:
    rows = left.wandb.rows
    assert all("trainer/global_step" in row for row in rows)
    with (left.path / "metrics.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    for name in ("train/loss", "train/learning_rate", "val/loss", "val/chrf", "val/aer"):
        expected = {int(row["step"]): float(row[name]) for row in written if row[name]}
        mirrored = {row["trainer/global_step"]: row[name] for row in rows if name in row}
        assert len(expected) >= 2
        assert mirrored == pytest.approx(expected)
    assert {name for name in written[0] if name.startswith(("train/", "val/"))} <= left.wandb.logged()
    (last,) = [row for row in rows if "test/loss" in row]
    floats = {name: value for name, value in left.results.items() if isinstance(value, float)}
    assert {name: last[name] for name in floats} == pytest.approx(floats)
    assert left.wandb.exit_code == 0


def test_the_wandb_file_has_the_pictures_under_three_keys(left: Left) -> None:
    keys = {key.rsplit("/", 1)[0] for key in left.wandb.logged() if key.startswith("patterns/")}
    keys -= {"patterns/heads"}
    assert keys == {f"patterns/{site}" for site in SITES}
    (folder,) = [path.parent for path in left.path.rglob("*.wandb")]
    for site in SITES:
        rows = [row for row in left.wandb.rows if f"patterns/{site}/filenames" in row]
        assert [row["trainer/global_step"] for row in rows] == [10, 20]
        for row in rows:
            pictures = row[f"patterns/{site}/filenames"]
            assert len(pictures) == len(row[f"patterns/{site}/captions"]) == 1
            assert all(f"step {row['trainer/global_step']}" in caption for caption in row[f"patterns/{site}/captions"])
            for picture in pictures:
                with Image.open(folder / "files" / picture) as image:
                    image.load()
                    assert image.size == (row[f"patterns/{site}/width"], row[f"patterns/{site}/height"])
    assert sum(file.is_file() for file in (left.path / "wandb").rglob("*")) < 300


def test_the_wandb_file_has_the_report_and_the_heads(left: Left) -> None:
    (folder,) = [path.parent for path in left.path.rglob("*.wandb")]
    (row,) = [row for row in left.wandb.rows if "report/path" in row]
    assert row["trainer/global_step"] == 20
    assert (folder / "files" / row["report/path"]).read_bytes() == (left.path / "report.html").read_bytes()
    table = json.loads((folder / "files" / row["patterns/heads/path"]).read_text(encoding="utf-8"))
    with (left.path / "patterns" / "heads.csv").open(newline="") as file:
        written = [row for row in csv.DictReader(file) if row["step"] == str(left.results["train/best_step"])]
    assert len(table["data"]) == len(written) == 12
    for cells, expected in zip(table["data"], written, strict=True):
        found = dict(zip(table["columns"], cells, strict=True))
        assert (found["site"], found["layer"], found["head"]) == (
            expected["site"],
            int(expected["layer"]),
            int(expected["head"]),
        )
        assert found["entropy"] == float(expected["entropy"])
        assert (found["aer"] is None) is (found["site"] != "cross")
    for site in SITES:
        logged = {row["trainer/global_step"] for row in left.wandb.rows if f"patterns/{site}/diagonality" in row}
        assert logged == {10, 20}


def test_other_loggers_write_beside_it(left: Left) -> None:
    assert (left.path / "csv" / "metrics.csv").stat().st_size > 100


@pytest.mark.slow
def test_both_backends_learn_the_same(train: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    losses = {}
    for backend in ("eager", "sdpa"):
        chosen = [f"backend={backend}", f"hydra.run.dir={backend}", "model.dropout=0", "model.attention_dropout=0"]
        finished = train("train", *SMALL, *chosen, "trainer.log_every_n_steps=1", cwd=tmp_path)
        assert (finished.status, finished.stderr) == (0, "")
        manifest = json.loads((tmp_path / backend / "manifest.json").read_text())
        assert [entry["backend"] for entry in manifest["backends"].values()] == [backend] * 3
        with (tmp_path / backend / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        losses[backend] = [float(row["train/loss"] or row["val/loss"]) for row in rows]
    assert len(losses["eager"]) == 22
    assert losses["eager"] == pytest.approx(losses["sdpa"], abs=1e-3)
    assert losses["eager"][0] > losses["eager"][-1] + 0.2


@pytest.mark.slow
def test_an_encoder_of_another_width_needs_a_variant_that_takes_it(
    train: PreparedCommand,  # noqa: F811
    tmp_path: Path,
) -> None:
    narrow = [*SMALL, "trainer.max_steps=2", "model.encoder.d_model=48"]
    finished = train("train", *narrow, "attention@cross=cross", cwd=tmp_path)
    assert (finished.status, finished.stderr) == (0, "")
    (run,) = run_folders(tmp_path)
    state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert state["model.src_embedding.token.weight"].shape[1] == 48
    assert state["model.decoder.0.cross_attention.key_proj.weight"].shape[1] == 48
    refused = train("train", *narrow, "attention@cross=multi_head", cwd=tmp_path)
    (sentence,) = refused.stderr.splitlines()
    assert refused.status == 2
    assert sentence.startswith("attnframe train: cross: multi_head")
    assert "d_context=48" in sentence
    assert "cross" in sentence.partition("variants that take d_context: ")[2].split(", ")
    assert run_folders(tmp_path) == [run]
