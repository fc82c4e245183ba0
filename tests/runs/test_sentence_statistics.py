"""What each test sentence adds to the scores: against the scores of the run, and against its predictions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_run import tiny_run

from attnframe import UserError
from attnframe.comparison.corpus_scores import RESAMPLED, corpus_score
from attnframe.data.tokenizer import fit_tokenizer
from attnframe.runs.sentence_statistics import FILE, SentenceStatistics, exact_counts, read_sentence_statistics
from attnframe.runs.sentence_statistics import write_sentence_statistics as write

SETS = ("test", "unseen_pairs", "composition", "longer")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("statistics") / "run"
    tiny_run(path, "trainer.max_steps=3", "trainer.val_check_interval=3", "callbacks.patterns.sentences=0")
    return path


def results_of(run: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((run / "results.json").read_text(encoding="utf-8"))
    return results


def test_their_sums_score_as_the_run_did(run: Path) -> None:
    results, statistics = results_of(run), read_sentence_statistics(run, RESAMPLED, SETS)
    assert tuple(statistics) == SETS
    for name in SETS:
        for measure in RESAMPLED:
            prefix = "test/" if name == "test" else f"test/{name}/"
            totals = statistics[name].counts[measure].sum(axis=0).astype(float)
            # The run adds up its loss batch by batch in single precision.
            tolerance = {"rel": 1e-5} if measure == "loss" else {"abs": 1e-9}
            assert float(corpus_score(measure, totals)) == pytest.approx(results[prefix + measure], **tolerance)
    assert results["test/chrf"] > 0
    assert results["test/aer"] < 1


def test_there_is_one_row_for_each_prediction_in_its_order(run: Path) -> None:
    rows = [line.split("\t") for line in (run / "predictions.tsv").read_text(encoding="utf-8").splitlines()[1:]]
    for name, statistics in read_sentence_statistics(run, RESAMPLED, SETS).items():
        assert list(statistics.ids) == [row[0] for row in rows if row[1] == name]
        assert {len(counts) for counts in statistics.counts.values()} == {len(statistics.ids)}


def test_a_run_without_the_file_has_those_of_its_predictions_and_stays_as_it_is(run: Path) -> None:
    written = read_sentence_statistics(run, RESAMPLED, SETS)
    (run / FILE).rename(run.parent / FILE)
    try:
        before = {file: file.stat().st_mtime_ns for file in run.rglob("*")}
        computed = read_sentence_statistics(run, RESAMPLED, SETS)
        assert {file: file.stat().st_mtime_ns for file in run.rglob("*")} == before
    finally:
        (run.parent / FILE).rename(run / FILE)
    for name in SETS:
        assert computed[name].ids == written[name].ids
        assert set(computed[name].counts) == {"bleu", "chrf", "exact_match"}
        for measure, counts in computed[name].counts.items():
            assert np.array_equal(counts, written[name].counts[measure])


def test_exactness_is_that_of_any_reference_as_the_tokenizer_sees_it(tmp_path: Path) -> None:
    tokenizer = fit_tokenizer("word", ["Le chat ."], lowercase=True)
    (tmp_path / "tokenizers.json").write_text(json.dumps({"target": tokenizer.state_dict()}), encoding="utf-8")
    rows = [
        ("id", "set", "source", "reference", "hypothesis", "tags", "references"),
        ("a", "test", "x", "Le chat.", "le chat.", "", "[]"),
        ("b", "test", "x", "Un chat.", "le chat.", "", '["Le  CHAT."]'),
        ("c", "test", "x", "Le chat.", "le chat", "", "[]"),
    ]
    (tmp_path / "predictions.tsv").write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    found = read_sentence_statistics(tmp_path, ["exact_match", "bleu"], ["test"])["test"]
    assert found.ids == ("a", "b", "c")
    assert found.counts["exact_match"].tolist() == [[1, 1], [1, 1], [0, 1]]
    # Case does not count: as many words match as there are.
    assert found.counts["bleu"][:2, 2].tolist() == found.counts["bleu"][:2, 6].tolist() == [3, 3]


def test_what_it_costs_is_recorded(run: Path) -> None:
    results = results_of(run)
    rate = results["train/target_tokens"] / results["train/seconds"]
    assert results["train/tokens_per_second"] == pytest.approx(rate)
    # Each parameter of a matrix is in one product a token at least, forward and twice backward; embeddings looked up
    # are in none. Attention over a dozen tokens adds little.
    assert 2 * results["parameters"] < results["train/flops_per_token"] < 12 * results["parameters"]
    assert 50 * 1024**2 < results["train/peak_memory_bytes"] < 100 * 1024**3


def test_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    one = SentenceStatistics(("a", "é"), {"exact_match": exact_counts([True, False]), "loss": np.ones((2, 2))})
    write(tmp_path, {"test": one, "a set/of odd name": one})
    found = read_sentence_statistics(tmp_path, ["exact_match", "bleu"], ["a set/of odd name", "none"])
    assert list(found) == ["a set/of odd name"]
    assert found["a set/of odd name"].ids == ("a", "é")
    assert list(found["a set/of odd name"].counts) == ["exact_match"]
    assert found["a set/of odd name"].counts["exact_match"].tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off"])
def test_a_damaged_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UserError, match=r"sentence_statistics.npz cannot be read, it is damaged"):
        read_sentence_statistics(tmp_path, ["bleu"], ["test"])


def test_a_folder_without_predictions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"predictions.tsv cannot be read, it is missing or damaged"):
        read_sentence_statistics(tmp_path, ["bleu"], ["test"])
