"""A variant that does not say what its pattern is trains and is scored all the same; what is missing is said once."""

from __future__ import annotations

import csv
import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest
from tiny_run import filled, metric_rows, tiny_run
from unsaid_runs import KINDS, MEAN_POOL, register_unsaid, unsaid_run

from attnframe import load_run
from attnframe.model import SITES
from attnframe.runs.decoding import GREEDY
from attnframe.runs.folder import RunFolder
from attnframe.training.rescoring import rescore

STEPS = ("5", "10", "12")


def results_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "results.json").read_text(encoding="utf-8"))
    return found


def head_rows(run: Path) -> list[dict[str, str]]:
    with (run / "patterns" / "heads.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def heads_of(run: Path, step: str) -> list[tuple[str, int, int]]:
    return [(row["site"], int(row["layer"]), int(row["head"])) for row in head_rows(run) if row["step"] == step]


def is_of_alignment(key: str) -> bool:
    return "aer" in key or "alignment" in key


@pytest.mark.parametrize("kind", ["everywhere", "extra_key"])
def test_where_no_module_has_a_pattern_there_is_no_alignment(
    kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    run = unsaid_run(tmp_path_factory, kind)
    assert (run / "DONE").exists()
    results = results_of(run)
    assert {"val/loss", "test/bleu", "test/longer/exact_match", "test/phenomenon/negation/exact_match"} <= set(results)
    assert not [key for key in results if is_of_alignment(key)]
    assert all(math.isfinite(value) for value in results.values() if isinstance(value, float))
    rows = metric_rows(run)
    assert list(map(str, filled(rows, "val/loss"))) == list(STEPS)
    assert not any(row[name] for row in rows for name in row if is_of_alignment(name))
    assert head_rows(run) == []
    assert not list(run.rglob("*.png"))
    assert (run / "report.html").exists()


def test_without_patterns_at_cross_the_other_sites_have_theirs(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = unsaid_run(tmp_path_factory, "at_cross")
    assert not [key for key in results_of(run) if is_of_alignment(key)]
    others = [(site, layer, head) for site in sorted(SITES) if site != "cross" for layer in (0, 1) for head in (0, 1)]
    assert all(heads_of(run, step) == others for step in STEPS)
    drawn = {file.stem.partition("_")[2].partition("_")[2] for file in run.rglob("*.png")}
    assert drawn == {"encoder_self", "decoder_self"}


def test_a_layer_keeps_its_number_where_the_one_before_has_no_pattern(tmp_path_factory: pytest.TempPathFactory) -> None:
    run = unsaid_run(tmp_path_factory, "first_cross_layer")
    results = results_of(run)
    for key in ("aer", "aer_norms", "aer_mean_heads"):
        assert results[f"test/{key}/layer"] == 1
        assert 0 <= results[f"test/{key}"] <= 1
    of_cross = [head for head in heads_of(run, "12") if head[0] == "cross"]
    assert of_cross == [("cross", 1, 0), ("cross", 1, 1)]
    last = {(row["layer"], row["head"]): row for row in head_rows(run) if (row["step"], row["site"]) == ("12", "cross")}
    best = filled(metric_rows(run), "val/aer")[12]
    assert min(float(row["aer"]) for row in last.values()) == best
    assert results["val/aer"] == filled(metric_rows(run), "val/aer")[results["train/best_step"]]


def test_a_layer_that_has_patterns_of_some_sentences_only_has_no_alignment(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """`by_chunks` calls attend once for short targets; the second layer is there for all."""
    run = unsaid_run(tmp_path_factory, "by_chunks")
    assert results_of(run)["test/aer/layer"] == 1
    loaded = load_run(run)
    assert list(loaded.patterns("the dog", "le chien")) == [(site, layer) for site in sorted(SITES) for layer in (0, 1)]
    longer = loaded.patterns("the old woman is not happy.", "la vieille dame n'est pas heureuse.")
    assert list(longer.missing) == [("cross", 0)]
    assert "ByChunks calls attend 2 times" in longer.missing["cross", 0]
    assert ("cross", 1) in longer


def test_what_is_missing_is_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    register_unsaid()
    with caplog.at_level(logging.WARNING):
        tiny_run(tmp_path / "run", *KINDS["first_cross_layer"], "attention@encoder_self=mean_pool")
    said = [record for record in caplog.records if "no patterns at" in record.getMessage()]
    assert [record.getMessage() for record in said] == [
        f"no patterns at cross layer 1, encoder_self layers 1 and 2: {MEAN_POOL}; it is trained and scored all the same"
    ]
    assert said[0].levelname == "WARNING"


@pytest.mark.parametrize(
    ("kind", "places"), [("everywhere", "cross layers 1 and 2"), ("first_cross_layer", "cross layer 1")]
)
def test_scoring_again_says_it_and_gives_the_same(
    kind: str,
    places: str,
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    path = unsaid_run(tmp_path_factory, kind)
    caplog.clear()
    results = rescore(load_run(path), RunFolder(tmp_path), data=None, decoding=GREEDY)
    assert [record.getMessage() for record in caplog.records] == [f"no patterns at {places}: {MEAN_POOL}"]
    trained = results_of(path)
    assert {key for key in results if is_of_alignment(key)} == {key for key in trained if is_of_alignment(key)}
    chosen = [key for key in trained if key.endswith(("/layer", "/head", "/reading"))]
    assert {key: results[key] for key in chosen} == {key: trained[key] for key in chosen}
