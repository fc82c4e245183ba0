"""The scores of results.json again from predictions.tsv, by sacreBLEU's own command."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from tiny_run import tiny_run

from attnframe.data.schema import Corpus, SentencePair
from attnframe.training import data_module
from attnframe.training.predictions import prediction_table
from attnframe.training.text_scores import Translation

# Enough for translations that share words and pairs of words with their references.
TRAINED = (
    "trainer.max_steps=120",
    "trainer.val_check_interval=120",
    "optimizer.lr=1e-2",
    "scheduler.warmup_steps=5",
    "callbacks.patterns.sentences=0",
)
SETS = ("test", "unseen_pairs", "composition", "longer")


def run_on(path: Path, change: Callable[[int, SentencePair], SentencePair], *overrides: str) -> dict[str, Any]:
    """A tiny run on the grammar's sentences, each changed by its place in its set; its results."""
    load = data_module.corpus_of

    def changed(settings: Mapping[str, Any]) -> Corpus:
        corpus = load(settings)
        sets = {
            name: tuple(change(index, pair) for index, pair in enumerate(pairs)) for name, pairs in corpus.sets.items()
        }
        return dataclasses.replace(corpus, sets=sets)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_module, "corpus_of", changed)
        tiny_run(path, *TRAINED, *overrides)
    results: dict[str, Any] = json.loads((path / "results.json").read_text(encoding="utf-8"))
    return results


def predictions(path: Path) -> list[dict[str, str]]:
    with (path / "predictions.tsv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def sacrebleu(folder: Path, hypotheses: list[str], *references: list[str], options: tuple[str, ...] = ()) -> list[str]:
    """What the command prints with nine decimals: BLEU, then chrF."""
    files = [folder / f"column_{index}" for index in range(1 + len(references))]
    for file, lines in zip(files, (hypotheses, *references), strict=True):
        file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, "-m", "sacrebleu", *map(str, files[1:]), "-i", str(files[0])]
    printed = subprocess.run(
        [*command, "-m", "bleu", "chrf", "-b", "-w", "9", *options],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    # For several metrics it is a JSON list.
    return [part.strip(' "[],') for part in printed.split() if part.strip(' "[],')]


def scored(results: dict[str, Any], name: str) -> list[str]:
    prefix = "test/" if name == "test" else f"test/{name}/"
    return [f"{results[prefix + metric]:.9f}" for metric in ("bleu", "chrf")]


@pytest.mark.slow
def test_the_command_gives_the_scores(tmp_path: Path) -> None:
    path = tmp_path / "run"
    results = run_on(path, lambda _, pair: pair)
    rows = predictions(path)
    assert list(rows[0]) == ["id", "set", "source", "reference", "hypothesis", "tags"]
    for name in SETS:
        columns = [[row[column] for row in rows if row["set"] == name] for column in ("hypothesis", "reference")]
        assert sacrebleu(tmp_path, *columns) == scored(results, name)
    assert results["test/bleu"] > 0.5
    assert results["test/chrf"] > 5


def capitalised(index: int, pair: SentencePair) -> SentencePair:
    target = pair.target.upper() if index % 3 == 0 else pair.target.capitalize()
    return dataclasses.replace(pair, target=target)


@pytest.mark.slow
def test_the_command_gives_the_scores_of_a_lower_casing_tokenizer(tmp_path: Path) -> None:
    path = tmp_path / "run"
    results = run_on(path, capitalised, "data.lowercase=true")
    rows = [row for row in predictions(path) if row["set"] == "test"]
    hypotheses, references = [row["hypothesis"] for row in rows], [row["reference"] for row in rows]
    assert hypotheses == [hypothesis.lower() for hypothesis in hypotheses]
    assert references != [reference.lower() for reference in references]
    assert sacrebleu(tmp_path, hypotheses, references, options=("-lc", "--chrf-lowercase")) == scored(results, "test")
    cased = sacrebleu(tmp_path, hypotheses, references)
    assert all(
        float(with_case) < float(without) for with_case, without in zip(cased, scored(results, "test"), strict=True)
    )
    assert all("case:lc" in results[f"signature/{metric}"] for metric in ("bleu", "chrf"))


def with_further_references(index: int, pair: SentencePair) -> SentencePair:
    """None, one or two more: one shorter than the model's translations, one in another order."""
    words = pair.target.rstrip(".").split()
    further = (" ".join(words[:3]) + ".", " ".join([*words[2:], *words[:2]]) + ' !\t"tab"')
    return dataclasses.replace(pair, references=further[: index % 3])


@pytest.mark.slow
def test_the_command_gives_the_scores_over_further_references(tmp_path: Path) -> None:
    path = tmp_path / "run"
    results = run_on(path, with_further_references)
    rows = predictions(path)
    assert list(rows[0]) == ["id", "set", "source", "reference", "hypothesis", "tags", "references"]
    for name in SETS:
        members = [row for row in rows if row["set"] == name]
        hypotheses, references = [row["hypothesis"] for row in members], [row["reference"] for row in members]
        further = [json.loads(row["references"]) for row in members]
        assert [len(entry) for entry in further] == [index % 3 for index in range(len(members))]
        streams = [
            [
                entry[place] if place < len(entry) else row["reference"]
                for row, entry in zip(members, further, strict=True)
            ]
            for place in range(2)
        ]
        assert sacrebleu(tmp_path, hypotheses, references, *streams) == scored(results, name)
        assert sacrebleu(tmp_path, hypotheses, references) != scored(results, name)
    assert results["signature/bleu"].startswith("nrefs:var|")


def translated(name: str, *references: str) -> tuple[str, Translation]:
    pair = SentencePair(f"{name}-1", "a source", "une cible", tags=("past", "clitic"), references=references)
    return name, Translation(pair, "un but", False)


def test_further_references_are_a_column_only_where_there_are_some() -> None:
    columns = ("id", "set", "source", "reference", "hypothesis", "tags")
    row = ("test-1", "test", "a source", "une cible", "un but", "past,clitic")
    assert prediction_table([translated("test")]) == (columns, [row])
    names, rows = prediction_table([translated("test"), translated("longer", "un\tbut", 'le "but" élevé')])
    assert names == (*columns, "references")
    assert [entry[:-1] for entry in rows] == [row, ("longer-1", "longer", *row[2:])]
    assert [json.loads(entry[-1]) for entry in rows] == [[], ["un\tbut", 'le "but" élevé']]
    assert all("\t" not in field for entry in rows for field in entry)
    assert "élevé" in rows[1][-1]
