"""`attnframe eval` as a user calls it."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from command_fixtures import home  # noqa: F401
from command_line import PreparedCommand
from sacrebleu.metrics.bleu import BLEU
from tiny_run import tiny_run

from attnframe import load_run
from attnframe.data.batching import Example, collate
from attnframe.data.sources import corpus_of, load_corpus
from attnframe.training.evaluation import Evaluation


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    tiny_run(path, "trainer.max_steps=60", "trainer.val_check_interval=20", "data.max_tokens=700")
    return path


@pytest.fixture(scope="module")
def command(home: Path) -> Iterator[PreparedCommand]:  # noqa: F811
    with PreparedCommand("attnframe.cli.eval,attnframe.training.rescoring", home) as prepared:
        yield prepared


def files(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


class Evaluated(NamedTuple):
    results: dict[str, Any]
    rows: list[dict[str, str]]
    manifest: dict[str, Any]
    stderr: str


def evaluated(command: PreparedCommand, folder: Path, *arguments: str) -> Evaluated:
    """One more evaluation, which leaves everything else in the folder as it was."""
    before = files(folder)
    done = command("eval", f"run={folder}", *arguments, cwd=folder.parent)
    assert done.status == 0, done.stderr
    after = files(folder)
    assert {name: after[name] for name in before} == before
    new = sorted(Path(name) for name in set(after) - set(before))
    assert [file.name for file in new] == [
        "evaluation.json",
        "predictions.tsv",
        "results.json",
        "sentence_statistics.npz",
    ]
    assert len({file.parent for file in new}) == 1
    assert new[0].parent.parent == folder / "eval"
    assert done.stdout.splitlines()[-1] == f"results: {new[0].parent.relative_to(folder.parent)}"
    with new[1].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    results, manifest = (json.loads(file.read_text(encoding="utf-8")) for file in (new[2], new[0]))
    return Evaluated(results, rows, manifest, done.stderr)


def test_the_best_state_scores_as_it_did(command: PreparedCommand, folder: Path) -> None:
    own = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    results, rows, manifest, said = evaluated(command, folder)
    assert said == ""
    assert set(own) <= set(results)
    for key, value in own.items():
        expected = pytest.approx(value, rel=1e-5) if isinstance(value, float) else value
        assert results[key] == expected, key
    assert results["decoding"] == "greedy"
    assert (manifest["checkpoint"], manifest["step"]) == ("best", own["train/best_step"])
    assert manifest["run"] == str(folder)
    assert manifest["data"] == json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["data"]
    with (folder / "predictions.tsv").open(encoding="utf-8", newline="") as file:
        assert rows == list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def test_heads_are_chosen_on_validation_and_kept_for_every_test_set(folder: Path) -> None:
    own = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    run = load_run(folder)
    corpus = corpus_of(run.settings["data"])

    def evaluation(name: str) -> Evaluation:
        pairs = corpus.sets[name]
        made = Evaluation(run.model, pairs, run.src_tokenizer, run.tgt_tokenizer)
        for index, pair in enumerate(pairs):
            example = Example(index, run.src_tokenizer.encode(pair.source), run.tgt_tokenizer.encode(pair.target))
            made.add(collate([example]))
        return made

    choice = evaluation("val").choose()
    assert choice.norms is not None
    elsewhere = []
    for name in corpus.test_sets:
        prefix = "test/" if name == "test" else f"test/{name}/"
        tested = evaluation(name)
        table = {row.place: row for row in tested.alignment_table()}
        head, norms = table[choice.head.place], table[choice.norms.place]
        found = [own[f"{prefix}{key}"] for key in ("aer", "aer_norms", "aer_soft", "alignment_recall")]
        assert found == pytest.approx([head.aer, norms.aer_norms, head.aer_soft, head.recall], rel=1e-5)
        elsewhere.append(tested.choose().head.place != choice.head.place)
    assert any(elsewhere), "every set would have chosen this head itself"


def test_beam_search_is_that_of_the_model(command: PreparedCommand, folder: Path) -> None:
    chosen = ("decoding=beam", "decoding.beam_size=3", "decoding.length_penalty=0.7")
    results, rows, manifest, _ = evaluated(command, folder, *chosen)
    assert manifest["decoding"] == {key: value for key, value in results.items() if key.startswith("decoding")}
    assert (results["decoding"], results["decoding/beam_size"], results["decoding/length_penalty"]) == ("beam", 3, 0.7)
    expected = load_run(folder).translate([row["source"] for row in rows], beam_size=3, length_penalty=0.7)
    assert [row["hypothesis"] for row in rows] == expected
    tests = [row for row in rows if row["set"] == "test"]
    bleu = BLEU().corpus_score([row["hypothesis"] for row in tests], [[row["reference"] for row in tests]]).score
    assert results["test/bleu"] == pytest.approx(bleu, abs=1e-9)


def test_the_last_checkpoint(command: PreparedCommand, folder: Path) -> None:
    results, _, manifest, _ = evaluated(command, folder, "checkpoint=last")
    assert (manifest["checkpoint"], manifest["step"]) == ("last", 60)
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        last = [row for row in csv.DictReader(file) if row["val/loss"]][-1]
    assert results["val/loss"] == pytest.approx(float(last["val/loss"]), rel=1e-5)


def test_sentences_of_the_training_set_are_named(command: PreparedCommand, folder: Path) -> None:
    train = load_corpus("grammar", train_size=300, val_size=13, test_size=11, held_out_size=7).sets["train"]
    known = [f"{pair.source.upper()}\t{pair.target}" for pair in train[:5]]
    new = [f"the zyzzyva {number} is tired.\tnon" for number in range(3)]
    (folder.parent / "half.tsv").write_text("\n".join([*known, *new]) + "\n", encoding="utf-8")
    results, rows, manifest, said = evaluated(command, folder, "data=parallel_file", "data.path=half.tsv")
    assert results["test/seen_in_training"] == 5
    assert "the run was trained on 5 of the 8 sources of test" in said
    assert len(rows) == results["test/sentences"] == 8
    assert manifest["settings"]["data"]["path"] == str(folder.parent / "half.tsv")


def test_a_file_of_ones_own_is_a_test_set_as_a_whole(command: PreparedCommand, folder: Path) -> None:
    own = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    lines = [
        f"the {word} is tired.\tle mot {word} est court.\t0-0 1-2 2?3" for word in ("old", "sad", "zyzzyva", "big")
    ]
    (folder.parent / "mine.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    # Longer than any sentence of the run, and one with nothing to translate.
    lines.append("the old man is " + "not " * 120 + "tired.\tnon\t0-0")
    (folder.parent / "mine.tsv").write_text("\n".join([*lines, "alone\t\t"]) + "\n", encoding="utf-8")
    results, rows, _, said = evaluated(command, folder, "data=parallel_file", "data.path=mine.tsv")
    assert "empty" in said
    assert [row["source"] for row in rows] == [line.split("\t")[0] for line in lines]
    assert {row["set"] for row in rows} == {"test"}
    assert results["test/unknown_src_words"] == 1
    assert not any(key.startswith("val/") for key in results)
    # Heads are those that the run's own validation has chosen.
    chosen = [f"test/{key}/{part}" for key in ("aer", "aer_norms") for part in ("layer", "head", "reading")]
    for key in (*chosen, "test/aer_mean_heads/layer"):
        assert results[key] == own[key]
    assert 0 <= results["test/aer"] <= 1
    assert 0 <= results["test/aer_norms"] <= 1


def test_a_run_that_measured_no_contributions_has_no_head_to_read_them_from(
    command: PreparedCommand, folder: Path, tmp_path: Path
) -> None:
    older = tmp_path / "older"
    shutil.copytree(folder, older)
    own = json.loads((older / "results.json").read_text(encoding="utf-8"))
    kept = {key: value for key, value in own.items() if "aer_norms" not in key}
    assert kept != own
    (older / "results.json").write_text(json.dumps(kept), encoding="utf-8")
    (tmp_path / "one.tsv").write_text("the old man is tired.\tle vieil homme est fatigué.\t1-1\n", encoding="utf-8")
    results, *_ = evaluated(command, older, "data=parallel_file", "data.path=one.tsv")
    assert results["test/aer/head"] == own["test/aer/head"]
    assert "test/aer" in results
    assert not any("aer_norms" in key for key in results)
    # Validated anew, it has one.
    results, *_ = evaluated(command, older)
    for key in ("test/aer_norms/layer", "test/aer_norms/head", "test/aer_norms/reading"):
        assert results[key] == own[key]
    assert results["test/aer_norms"] == pytest.approx(own["test/aer_norms"], rel=1e-5)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "which run? Give its folder: run="),
        (["RUN", "decoding=beam", "debug=fast"], "debug: eval takes no config group 'debug': known: data, decoding"),
        (["RUN", "decoding=bea"], "decoding=bea: there is no decoding 'bea': did you mean 'beam'?"),
        (["RUN", "data=gramar"], "data=gramar: there is no data 'gramar': did you mean 'grammar'?"),
        (["RUN", "data=parallel_file", "data.path=nofile.tsv"], "nofile.tsv"),
        (["RUN", "data=parallel_file"], "data.path"),
        (["RUN", "data=grammar", "data.train_sze=3"], "data.train_sze: data has no 'train_sze'"),
        (["RUN", "data=grammar", "+data.foo=3"], "data.foo: grammar has no option 'foo'"),
        (["RUN", "data=3"], "data=3: data is chosen by name"),
        (["RUN", "data.path=mine.tsv"], "data.path: only parallel_file, tatoeba has 'path'; choose it first: data="),
        (["RUN", "data=grammar", "data.tokenizer=bpe"], "data.tokenizer=bpe: the tokenizers are those of the run"),
        (["RUN", "max_tokens=3"], "max_tokens is 3, but the longest sentence pair alone has"),
        (["RUN", "--beam"], "--beam: there is no such flag"),
        (["RUN", "checkpoint=first"], "checkpoint=first"),
        (["RUN", "another"], "another: this is neither KEY=VALUE nor a flag"),
        (["run=nowhere"], "run=nowhere: there is no such folder"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    command: PreparedCommand, folder: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    before = files(folder)
    done = command("eval", *(str(folder) if item == "RUN" else item for item in arguments), cwd=tmp_path)
    assert done.status == 2
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("attnframe eval: ")
    assert says in sentence
    assert files(folder) == before
    assert not list(folder.rglob(".*.partial"))
