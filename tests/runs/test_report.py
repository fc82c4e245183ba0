"""The report of a run says what is in its folder, whatever state that is in."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny_run import SMALL, filled, metric_rows, surroundings, tiny_data, tiny_run
from unsaid_runs import MEAN_POOL, unsaid_run

from attnframe import UserError
from attnframe.cli import composition, settings
from attnframe.data.words import split_words
from attnframe.model import SITES
from attnframe.patterns.alignment import Reading
from attnframe.patterns.page import PageTable, page_html
from attnframe.runs import building
from attnframe.runs.folder import RunFolder
from attnframe.runs.report import Report, read_report, write_report
from attnframe.training.run import run as train

ABLATION = """what,site,layer,head,mode,loss,loss_change,bleu,bleu_change,exact_match,exact_match_change,aer,aer_change
head,cross,1,0,zero,1.5,0.5,90.0,-9.0,0.5,-0.25,0.5,0.25
site,cross,,,zero,5.0,4.0,1.0,-98.0,0.0,-0.75,0.5,0.25
layer,cross,1,,zero,3.0,2.0,50.0,-49.0,0.25,-0.5,0.25,0.0
head,cross,1,0,uniform,1.75,0.75,91.0,-8.0,0.5,-0.25,,
head,encoder_self,0,1,zero,0.75,-0.25,99.0,0.0,0.75,0.0,0.25,0.0
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "run"
    tiny_run(path, "trainer.max_steps=23", "trainer.val_check_interval=10", "callbacks.patterns.sentences=2")
    return path


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


def report_of(run: Path) -> Report:
    return read_report(RunFolder(run))


def table(report: Report, title: str) -> PageTable:
    (found,) = [table for table in report.run.tables if table.title == title]
    return found


def test_patterns_are_those_of_the_files_at_every_step(finished: Path) -> None:
    report = report_of(finished)
    assert report.problems == []
    assert report.run.steps == [10, 20, 23]
    assert len(report.run.sentences) == 2
    pairs = {pair.source: pair for pair in tiny_data().corpus.sets["val"]}
    for index, sentence in enumerate(report.run.sentences):
        pair = pairs[sentence.source]
        assert (sentence.target, sentence.alignment) == (pair.target, pair.alignment)
        assert set(sentence.patterns) == {(site, layer) for site in SITES for layer in range(2)}
        for time, step in enumerate(report.run.steps):
            with np.load(finished / "patterns" / f"step_{step:06d}" / f"sentence_{index}.npz") as arrays:
                for (site, layer), pattern in sentence.patterns.items():
                    assert pattern.kind == str(arrays[f"{site}/layer_{layer}/kind"])
                    np.testing.assert_array_equal(pattern.weights[time], arrays[f"{site}/layer_{layer}"])
                    contributions = arrays[f"{site}/layer_{layer}/contributions"]
                    assert pattern.contributions is not None
                    np.testing.assert_array_equal(pattern.contributions[time], contributions)
                    for labels, axis in zip(sentence.labels[site], ("query", "key"), strict=True):
                        assert list(labels) == arrays[f"{site}/{axis}_labels"].tolist()


def test_traces_are_those_of_the_files(finished: Path) -> None:
    run = report_of(finished).run
    rows = metric_rows(finished)
    for name in ("val/loss", "val/aer", "val/aer_norms", "val/bleu", "val/exact_match"):
        assert list(run.traces[name]) == [filled(rows, name)[step] for step in run.steps]
    with (finished / "patterns" / "heads.csv").open(newline="") as file:
        heads = list(csv.DictReader(file))
    assert len(run.head_traces) == 12
    for (site, layer, head), traces in run.head_traces.items():
        written = [row for row in heads if (row["site"], row["layer"], row["head"]) == (site, str(layer), str(head))]
        assert list(traces["entropy"]) == [float(row["entropy"]) for row in written]
        assert ("aer" in traces) is (site == "cross")


def test_tables_are_those_of_the_results(finished: Path) -> None:
    report = report_of(finished)
    results = json.loads((finished / "results.json").read_text(encoding="utf-8"))
    scores = table(report, "Scores")
    assert [row[0] for row in scores.rows] == ["test", "unseen_pairs", "composition", "longer"]
    assert list(scores.columns[1:4]) == ["exact_match", "bleu", "chrf"]
    assert "aer_norms" in scores.columns
    for row in scores.rows:
        prefix = "test/" if row[0] == "test" else f"test/{row[0]}/"
        assert list(row[1:]) == [results[f"{prefix}{name}"] for name in scores.columns[1:]]
    chosen = f"aer is that of layer {results['test/aer/layer'] + 1}, head {results['test/aer/head'] + 1}"
    assert f"{chosen} ({results['test/aer/reading']})" in scores.caption
    phenomena = table(report, "Phenomena")
    assert list(phenomena.columns) == ["phenomenon", "exact_match", "aer", "aer_norms", "aer_diagonal", "aer_perfect"]
    for row in phenomena.rows:
        assert list(row[1:]) == [results[f"test/phenomenon/{row[0]}/{name}"] for name in phenomena.columns[1:]]
    assert len(phenomena.rows) == sum(key.startswith("test/phenomenon/") and key.endswith("/aer") for key in results)
    heads = table(report, "Heads")
    assert len(heads.rows) == 12
    assert f"step {results['train/best_step']}" in heads.caption
    assert {tuple(row[:3]) for row in heads.rows} == {(site, i, j) for site in SITES for i in (1, 2) for j in (1, 2)}
    assert [table.title for table in report.run.tables] == ["Scores", "Phenomena", "Heads"]
    assert report.run.importance is None
    assert (report.run.name, report.run.subtitle) == (
        "debug",
        f"variant multi_head, data grammar, seed 1, folder run, best state: step {results['train/best_step']}",
    )


def test_an_ablation_is_an_overlay_and_a_table(run: Path) -> None:
    (run / "ablation").mkdir()
    (run / "ablation" / "ablation.csv").write_text(ABLATION, encoding="utf-8")
    report = report_of(run)
    assert report.run.importance == {("cross", 1, 0): 0.5, ("encoder_self", 0, 1): -0.25}
    heads, wholes = table(report, "Heads, ablated"), table(report, "Sites and layers, ablated")
    assert heads.columns == ["site", "layer", "head", "mode", "loss", "loss_change", "bleu_change", "aer_change"]
    assert heads.rows == [
        ["cross", 2, 1, "uniform", 1.75, 0.75, -8.0, None],
        ["cross", 2, 1, "zero", 1.5, 0.5, -9.0, 0.25],
        ["encoder_self", 1, 2, "zero", 0.75, -0.25, 0.0, 0.0],
    ]
    assert wholes.columns == ["site", "layer", "mode", "loss", "loss_change", "bleu_change", "aer_change"]
    assert wholes.rows == [
        ["cross", None, "zero", 5.0, 4.0, -98.0, 0.25],
        ["cross", 2, "zero", 3.0, 2.0, -49.0, 0.0],
    ]
    assert not any("sentences" in shown.caption for shown in (heads, wholes))
    (run / "ablation" / "ablation.json").write_text('{"set": "val", "sentences": 60}', encoding="utf-8")
    for title in ("Heads, ablated", "Sites and layers, ablated"):
        assert "On the first 60 sentences of the set val" in table(report_of(run), title).caption
    page_html([report.run])


def test_of_many_ablated_heads_the_twelve_that_matter_most(run: Path) -> None:
    header, *_ = ABLATION.splitlines()
    changes = {head: 0.1 * ((7 * head) % 17) for head in range(17)} | {5: math.nan}
    lines = [
        f"head,cross,0,{head},{mode},1.0,{change - (mode == 'uniform')},9.0,0.0,0.0,0.0,,"
        for head, change in changes.items()
        for mode in ("zero", "uniform")
    ]
    (run / "ablation").mkdir()
    (run / "ablation" / "ablation.csv").write_text("\n".join([header, *lines]), encoding="utf-8")
    heads = table(report_of(run), "Heads, ablated")
    best = sorted(changes, key=lambda head: -changes[head] if head != 5 else -math.inf)[:12]
    assert [row[2] for row in heads.rows] == [head + 1 for head in best for _ in range(2)]
    assert [row[3] for row in heads.rows[2:]] == ["zero", "uniform"] * 11
    assert heads.rows[0][5] is None
    assert "aer_change" not in heads.columns
    assert "12 of 17 heads" in heads.caption


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"[1]", b"{}"])
def test_a_damaged_description_of_the_ablation_is_said(run: Path, content: bytes) -> None:
    (run / "ablation").mkdir()
    (run / "ablation" / "ablation.csv").write_text(ABLATION, encoding="utf-8")
    (run / "ablation" / "ablation.json").write_bytes(content)
    report = report_of(run)
    assert report.problems == ["ablation/ablation.json is damaged"]
    assert table(report, "Heads, ablated").rows


def test_it_opens_on_the_head_that_the_aer_is_read_from(run: Path) -> None:
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    results |= {"test/aer/layer": 1, "test/aer/head": 0}
    (run / "results.json").write_text(json.dumps(results), encoding="utf-8")
    assert report_of(run).run.opening == ("cross", 1, 0)
    (run / "results.json").unlink()
    losses = filled(metric_rows(run), "val/loss")
    best = min(losses, key=lambda step: losses[step])
    with (run / "patterns" / "heads.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if int(row["step"]) == best and row["aer"]]
    lowest = min(rows, key=lambda row: float(row["aer"]))
    assert report_of(run).run.opening == ("cross", int(lowest["layer"]), int(lowest["head"]))
    (run / "patterns" / "heads.csv").unlink()
    assert report_of(run).run.opening is None


def test_validations_without_snapshots_keep_their_numbers(run: Path) -> None:
    before = report_of(run).run
    shutil.rmtree(run / "patterns" / "step_000020")
    report = report_of(run)
    assert report.problems == []
    assert (report.run.steps, report.run.pattern_steps) == ([10, 20, 23], [10, 23])
    assert (report.run.traces, report.run.head_traces) == (before.traces, before.head_traces)
    for sentence, whole in zip(report.run.sentences, before.sentences, strict=True):
        for place, shown in sentence.patterns.items():
            np.testing.assert_array_equal(shown.weights, whole.patterns[place].weights[[0, 2]])
    page_html([report.run])


def test_captions_say_what_there_is(finished: Path, run: Path) -> None:
    heads = table(report_of(finished), "Heads")
    assert "entropy, effective_support, largest_weight only of patterns that are probabilities" in heads.caption
    assert "aer, aer_norms by the head's better reading" in heads.caption
    scores = table(report_of(finished), "Scores").caption
    results = json.loads((finished / "results.json").read_text(encoding="utf-8"))
    layer = results["test/aer_mean_heads/layer"] + 1
    assert f"aer_mean_heads is that of layer {layer} ({results['test/aer_mean_heads/reading']})" in scores
    used = {results[f"test/{name}/reading"] for name in ("aer", "aer_norms", "aer_mean_heads")}
    assert all((f"{reading}: a word is aligned by" in scores) is (reading in used) for reading in Reading)
    (run / "patterns" / "heads.csv").write_text(
        "step,site,layer,head,kind,entropy,aer\n10,cross,0,0,signed,nan,0.5\n20,cross,0,0,signed,nan,0.5\n"
        "23,cross,0,0,signed,nan,0.5\n",
        encoding="utf-8",
    )
    heads = table(report_of(run), "Heads")
    assert heads.rows == [["cross", 1, 1, None, 0.5]]
    assert not any(name in heads.caption for name in ("effective_support", "distance", "value_rank", "aer_norms"))
    assert "; entropy only of patterns that are probabilities" in heads.caption


def test_the_run_has_written_it(finished: Path) -> None:
    written = (finished / "report.html").read_text(encoding="utf-8")
    assert written == page_html([report_of(finished).run])
    assert not [file.name for file in finished.iterdir() if "partial" in file.name]


def test_writing_it_again_replaces_it(run: Path) -> None:
    (run / "report.html").write_text("old", encoding="utf-8")
    assert write_report(RunFolder(run)) == run / "report.html"
    assert (run / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def of_an_older_version(run: Path) -> None:
    """Without contributions, gold links and statistics, and with the results that there were."""
    for file in run.rglob("*.npz"):
        with np.load(file) as archive:
            arrays = {name: archive[name] for name in archive.files}
        added = ("contributions", "gold/sure", "gold/possible", "source", "target")
        np.savez_compressed(file, **{name: array for name, array in arrays.items() if not name.endswith(added)})
    (run / "patterns" / "heads.csv").unlink()
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    kept = {k: v for k, v in results.items() if "norms" not in k and not ("phenomenon" in k and "aer" in k)}
    (run / "results.json").write_text(json.dumps(kept), encoding="utf-8")


def test_a_run_of_an_older_version(run: Path) -> None:
    before = report_of(run)
    of_an_older_version(run)
    report = report_of(run)
    assert report.problems == []
    assert [sentence.source for sentence in report.run.sentences] == [
        " ".join(split_words(sentence.source)) for sentence in before.run.sentences
    ]
    for sentence in report.run.sentences:
        assert sentence.alignment is None
        assert all(pattern.contributions is None for pattern in sentence.patterns.values())
    assert [(table.title, "aer_norms" in table.columns) for table in report.run.tables] == [
        ("Scores", False),
        ("Phenomena", False),
    ]
    page_html([report.run])


def test_contributions_that_came_later(run: Path) -> None:
    """A run that went on with a version that records them."""
    file = run / "patterns" / "step_000010" / "sentence_0.npz"
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files if not name.endswith("contributions")}
    np.savez_compressed(file, **arrays)
    report = report_of(run)
    contributions = report.run.sentences[0].patterns["cross", 0].contributions
    assert contributions is not None
    assert np.isnan(contributions[0]).all()
    assert np.isfinite(contributions[1:]).all()
    page_html([report.run])


def interrupted(run: Path) -> None:
    (run / "DONE").rename(run / "INTERRUPTED")
    (run / "results.json").unlink()


def failed(run: Path) -> None:
    interrupted(run)
    (run / "INTERRUPTED").rename(run / "FAILED")
    (run / "error.txt").write_text("Traceback\nRuntimeError: <b>out of luck\n", encoding="utf-8")


def going_on(run: Path) -> None:
    """The last step is half written, and so is a row."""
    interrupted(run)
    (run / "INTERRUPTED").unlink()
    (run / "patterns" / "step_000023" / "sentence_1.npz").unlink()
    with (run / "metrics.csv").open("a", encoding="utf-8") as file:
        file.write("30,1,2")


def failed_at_once(run: Path) -> None:
    failed(run)
    shutil.rmtree(run / "patterns")
    (run / "metrics.csv").unlink()


@pytest.mark.parametrize(
    ("happen", "steps", "sentence"),
    [
        (interrupted, [10, 20, 23], "the run was stopped before its end"),
        (failed, [10, 20, 23], "the run failed: RuntimeError: <b>out of luck"),
        (going_on, [10, 20, 23], "the run is not finished: it is still going on, or was killed"),
        (failed_at_once, [], "no patterns were recorded: the run has not come to a validation"),
    ],
)
def test_runs_that_are_not_done(happen: Callable[[Path], None], steps: list[int], sentence: str, run: Path) -> None:
    happen(run)
    report = report_of(run)
    assert report.run.steps == steps
    assert sentence in report.run.subtitle
    shown = steps[:2] if happen is going_on else steps
    assert report.run.pattern_steps == shown
    assert all(pattern.weights.shape[0] == len(shown) for s in report.run.sentences for pattern in s.patterns.values())
    titles = [table.title for table in report.run.tables]
    assert titles == (["Heads"] if steps else [])
    assert write_report(RunFolder(run)).stat().st_size > 10_000


def test_a_run_without_patterns_says_so_and_keeps_its_traces(run: Path) -> None:
    shutil.rmtree(run / "patterns")
    manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    manifest["settings"]["callbacks"]["patterns"]["sentences"] = 0
    (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    report = report_of(run)
    assert report.problems == ["no patterns were recorded (callbacks.patterns.sentences=0)"]
    assert report.problems[0] in report.run.subtitle
    assert report.run.steps == [10, 20, 23]
    assert len(report.run.traces["val/loss"]) == 3
    assert report.run.sentences == []
    page_html([report.run])


def test_a_damaged_file_costs_its_step(run: Path) -> None:
    (run / "patterns" / "step_000020" / "sentence_1.npz").write_bytes(b"PK\x03\x04 no")
    report = report_of(run)
    assert (report.run.steps, report.run.pattern_steps) == ([10, 20, 23], [10, 23])
    (problem,) = report.problems
    assert problem.startswith("step 20 is left out: patterns/step_000020/sentence_1.npz cannot be read, it is damaged")
    assert "\n" not in problem
    assert problem in report.run.subtitle
    assert len(report.run.traces["val/loss"]) == 3


@pytest.mark.parametrize("content", [b"\xff\xfe", b"", b"[1, 2]", b'{"test/bleu": '])
def test_damaged_results_are_said(run: Path, content: bytes) -> None:
    (run / "results.json").write_bytes(content)
    report = report_of(run)
    assert report.problems == ["results.json is damaged"]
    losses = filled(metric_rows(run), "val/loss")
    assert f"best state: step {min(losses, key=lambda step: losses[step])}" in report.run.subtitle


@pytest.mark.parametrize("content", [b"\xff\xfe", b"what,site\nhead,cross\n", ABLATION.replace("0.5", "").encode()])
def test_a_damaged_ablation_is_said(run: Path, content: bytes) -> None:
    (run / "ablation").mkdir()
    (run / "ablation" / "ablation.csv").write_bytes(content)
    report = report_of(run)
    assert report.problems == ["ablation/ablation.csv is damaged"]
    assert report.run.importance is None


def test_a_diverged_run_has_a_page(run: Path) -> None:
    for file in run.rglob("*.npz"):
        with np.load(file) as archive:
            arrays = {name: archive[name] for name in archive.files}
        for name, array in arrays.items():
            if array.dtype.kind == "f":
                arrays[name] = np.full_like(array, math.nan)
        np.savez_compressed(file, **arrays)
    results = json.loads((run / "results.json").read_text(encoding="utf-8"))
    (run / "results.json").write_text(
        json.dumps({k: None if isinstance(v, float) else v for k, v in results.items()}), encoding="utf-8"
    )
    assert write_report(RunFolder(run)).exists()


def test_a_run_without_gold_links(tmp_path: Path) -> None:
    pairs = tiny_data().corpus.sets["train"][:60]
    lines = "".join(f"{pair.source}\t{pair.target}\n" for pair in pairs)
    (tmp_path / "pairs.tsv").write_text(lines, encoding="utf-8")
    with surroundings(tmp_path / "run"):
        composition.prepare()
        file = ["data=parallel_file", "data.path=pairs.tsv", "data.val_size=5", "data.test_size=5"]
        own = [choice for choice in SMALL if not choice.startswith("data.")]
        chosen = settings.plain(composition.compose_config([*own, *file, "trainer.max_steps=2"]))
        train(chosen, tmp_path / "run", building.attention_factory(chosen))
    report = report_of(tmp_path / "run")
    assert report.problems == []
    assert all(sentence.alignment is None for sentence in report.run.sentences)
    assert not any("aer" in name for name in report.run.traces)
    assert not any("aer" in name for traces in report.run.head_traces.values() for name in traces)
    assert len(report.run.head_traces) == 12
    scores = table(report, "Scores")
    assert (list(scores.columns), len(scores.rows)) == (["set", "exact_match", "bleu", "chrf", "loss"], 1)
    assert "alignment" not in scores.caption
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.parametrize(
    ("kind", "missing", "there"),
    [
        ("everywhere", "cross layers 1 and 2, decoder_self layers 1 and 2, encoder_self layers 1 and 2", []),
        ("at_cross", "cross layers 1 and 2", [(site, layer) for site in SITES[:2] for layer in range(2)]),
        (
            "first_cross_layer",
            "cross layer 1",
            [*((site, layer) for site in SITES[:2] for layer in range(2)), ("cross", 1)],
        ),
    ],
)
def test_what_has_no_patterns_is_said(
    kind: str, missing: str, there: list[tuple[str, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = unsaid_run(tmp_path_factory, kind)
    report = report_of(path)
    assert report.problems == [f"no patterns at {missing}: {MEAN_POOL}"]
    assert report.problems[0] in report.run.subtitle
    assert report.run.steps == [5, 10, 12]
    for sentence in report.run.sentences:
        assert sorted(sentence.patterns) == sorted(there)
        assert set(sentence.labels) == set(SITES)
    heads = {(site, layer) for site, layer, _ in report.run.head_traces}
    assert heads == set(there)
    assert ("aer" in table(report, "Scores").columns) is (("cross", 1) in there)
    assert (path / "report.html").read_text(encoding="utf-8") == page_html([report.run])


def test_a_pattern_that_came_later_is_not_finite_before(run: Path) -> None:
    """A run that went on with a variant that now says what its pattern is."""
    for number in range(2):
        file = run / "patterns" / "step_000010" / f"sentence_{number}.npz"
        with np.load(file) as archive:
            arrays = {name: archive[name] for name in archive.files if not name.startswith("cross/layer_0")}
        np.savez_compressed(file, **arrays, **{"cross/layer_0/missing": np.array("a reason")})
    report = report_of(run)
    assert report.problems == []
    assert report.run.steps == [10, 20, 23]
    for sentence in report.run.sentences:
        pattern = sentence.patterns["cross", 0]
        assert pattern.contributions is not None
        for maps in (pattern.weights, pattern.contributions):
            assert np.isnan(maps[0]).all()
            assert np.isfinite(maps[1:]).all()
        assert np.isfinite(sentence.patterns["cross", 1].weights).all()
    page_html([report.run])


@pytest.mark.parametrize("place", ["attention", "data", "callbacks"])
def test_a_damaged_manifest_is_said(place: str, tmp_path: Path) -> None:
    settings = {
        "name": "x",
        "seed": 1,
        "attention": {"name": "self"},
        "data": {"name": "grammar"},
        "callbacks": {"patterns": {"sentences": 3}},
    }
    folder = RunFolder(tmp_path)
    folder.write_manifest({"settings": {**settings, place: None}, "plugins": []})
    with pytest.raises(UserError, match=f"manifest.json is damaged: its settings have no {place}"):
        read_report(folder)


def test_where_there_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no run"):
        write_report(RunFolder(tmp_path))
    assert not list(tmp_path.iterdir())
