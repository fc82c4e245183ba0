"""`attnframe ablate` as a user calls it."""

from __future__ import annotations

import csv
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_fixtures import home  # noqa: F401
from command_line import CONSOLE_SCRIPT, PreparedCommand, environment
from terminal import printed_at_a_terminal
from tiny_run import tiny_run

MEASURES = ["loss", "bleu", "exact_match", "aer"]
HEADER = ["site", "layer", "head", "mode", *(column for name in MEASURES for column in (name, f"{name}_change"))]
FILES = ["ablation/ablation.csv", "ablation/ablation.json", "ablation/ablation.png"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs") / "run"
    tiny_run(path, "trainer.max_steps=40", "data.max_tokens=700")
    return path


@pytest.fixture
def folder(trained: Path, tmp_path: Path) -> Path:
    """A run of one's own."""
    shutil.copytree(trained, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture(scope="module")
def command(home: Path) -> Iterator[PreparedCommand]:  # noqa: F811
    with PreparedCommand("attnframe.cli.ablate,attnframe.training.ablation_files,attnframe.runs.report", home) as it:
        yield it


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def table(folder: Path) -> list[dict[str, str]]:
    with (folder / "ablation" / "ablation.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_a_run_is_ablated_and_otherwise_as_it_was(command: PreparedCommand, folder: Path) -> None:
    before = files(folder)
    done = command("ablate", f"run={folder}", "sentences=5", cwd=folder.parent)
    assert (done.status, done.stderr) == (0, "")
    after = files(folder)
    changed = {name for name in after if before.get(name) != after[name]}
    assert sorted(changed | {"report.html"}) == [*FILES, "report.html"]
    assert set(before) <= set(after)

    *printed, aer, results, report = done.stdout.splitlines()
    assert (results, report) == ("results: run/ablation", "report: run/report.html")
    assert printed[0].split("\t") == HEADER
    rows = [dict(zip(HEADER, line.split("\t"), strict=True)) for line in printed[1:]]
    assert (rows[0]["site"], rows[0]["loss_change"]) == ("(untouched)", "")
    told = json.loads((folder / "ablation" / "ablation.json").read_text(encoding="utf-8"))
    assert rows[0]["loss"] == f"{told['untouched']['loss']:.3f}"
    assert (told["set"], told["sentences"], told["run"]) == ("val", 5, str(folder))
    head = told["aer"]
    assert aer == f"aer: always that of cross, layer {head['layer'] + 1}, head {head['head'] + 1}, by its own weights"

    # Layers and heads count from 1 on the terminal, from 0 in the file, in the same order.
    written = table(folder)
    assert len(rows) == 1 + len(written) == 1 + 2 * (3 + 6 + 12)
    for row, line in zip(rows[1:], written, strict=True):
        numbers = [str(int(line[name]) + 1) if line[name] else "all" for name in ("layer", "head")]
        assert [row["layer"], row["head"]] == numbers
        assert (row["site"], row["mode"]) == (line["site"], line["mode"])
        assert float(row["loss_change"]) == pytest.approx(float(line["loss_change"]), abs=6e-4)
        assert re.fullmatch(r"[+-]\d+\.\d", row["bleu_change"])
        assert row["loss_change"] != "-0.000"


@pytest.mark.slow
def test_the_next_call_replaces_all_of_the_last(command: PreparedCommand, folder: Path) -> None:
    (folder / "ablation").mkdir()
    (folder / "ablation" / "note.txt").write_text("old")
    chosen = ("mode=zero", "set=longer", "sentences=3", "checkpoint=last")
    done = command("ablate", str(folder), *chosen, cwd=folder.parent)
    assert (done.status, done.stderr) == (0, "")
    assert sorted(file.name for file in (folder / "ablation").iterdir()) == [Path(name).name for name in FILES]
    assert {row["mode"] for row in table(folder)} == {"zero"}
    told = json.loads((folder / "ablation" / "ablation.json").read_text(encoding="utf-8"))
    assert (told["set"], told["sentences"], told["checkpoint"], told["step"]) == ("longer", 3, "last", 40)
    assert not list(folder.glob(".ablation*"))


@pytest.mark.slow
def test_a_file_of_ones_own(command: PreparedCommand, folder: Path) -> None:
    lines = ["the old man is tired.\tle vieil homme est fatigué.", "she sleeps.\telle dort."]
    (folder.parent / "mine.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    chosen = ("data=parallel_file", "data.path=mine.tsv", "mode=uniform")
    done = command("ablate", f"run={folder}", *chosen, cwd=folder.parent)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0].split("\t") == HEADER[:-2]
    told = json.loads((folder / "ablation" / "ablation.json").read_text(encoding="utf-8"))
    assert (told["set"], told["sentences"], told["aer"]) == ("test", 2, None)
    assert told["settings"]["data"]["path"] == str(folder.parent / "mine.tsv")


def test_a_report_that_cannot_be_written_loses_no_study(command: PreparedCommand, folder: Path) -> None:
    (folder / "report.html").unlink(missing_ok=True)
    (folder / "report.html").mkdir()
    done = command("ablate", f"run={folder}", "sentences=2", "mode=zero", cwd=folder.parent)
    assert done.status == 0
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("attnframe ablate: report.html could not be written: ")
    assert len(table(folder)) == 21


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "which run? Give its folder: run="),
        (["RUN", "mode=zeros"], "mode=zeros: did you mean 'zero'? (known: both, uniform, zero)"),
        (["RUN", "set=tset"], "set=tset: data=grammar has no such set to score: did you mean 'test'?"),
        (["RUN", "sentences=0"], "sentences=0: it must be a whole number from 1 on"),
        (["RUN", "sentence=3"], "sentence: the config has no 'sentence': did you mean 'sentences'?"),
        (["RUN", "max_tokens=3"], "max_tokens is 3, but the longest sentence pair alone has"),
        (["RUN", "data=grammar", "data.tokenizer=bpe"], "data.tokenizer=bpe: the tokenizers are those of the run"),
        (["RUN", "data=parallel_file", "data.path=nofile.tsv"], "nofile.tsv"),
        (["run=nowhere"], "run=nowhere: there is no such folder"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    command: PreparedCommand, trained: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    before = files(trained)
    done = command("ablate", *(str(trained) if item == "RUN" else item for item in arguments), cwd=tmp_path)
    assert done.status == 2
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("attnframe ablate: ")
    assert says in sentence
    assert files(trained) == before
    assert not (trained / "ablation").exists()
    assert not list(trained.glob(".ablation*"))


def test_help_is_quick(command: PreparedCommand, tmp_path: Path) -> None:
    done = command("ablate", "-h", cwd=tmp_path)
    assert done.status == 0
    assert done.stdout.startswith("attnframe ablate run=DIR")


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_stopped_it_leaves_what_was_there(home: Path, folder: Path, number: signal.Signals) -> None:  # noqa: F811
    (folder / "ablation").mkdir()
    (folder / "ablation" / "ablation.csv").write_text("old")
    before = files(folder)
    script = f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {CONSOLE_SCRIPT}"
    # A budget of one sentence a batch, so that there is time to stop it.
    process = subprocess.Popen(
        [sys.executable, "-c", script, "ablate", f"run={folder}", "set=test", "max_tokens=60"],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not list(folder.glob(".ablation*.partial")):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130
    assert (stdout, stderr) == ("", "attnframe ablate: stopped\n")
    assert files(folder) == before
    assert not list(folder.glob(".ablation*"))


@pytest.mark.slow
def test_at_a_terminal_the_first_of_each_kind_are_shown(home: Path, folder: Path) -> None:  # noqa: F811
    text = printed_at_a_terminal("ablate", "run", "sentences=2", cwd=folder.parent, home=home, columns=100, seconds=60)
    assert "models scored" in text
    # 24 heads and 12 layers in two modes, of which 10 each are shown, and all 6 rows of sites.
    assert "16 more rows are in ablation.csv" in text
    shown = text[text.index("(untouched)") :]
    for kind, count in ((r"\d +\d", 10), (r"\d +all", 10), ("all +all", 6)):
        assert len(re.findall(rf"^\w+ +{kind} +(zero|uniform)", shown, re.MULTILINE)) == count
    assert max(map(len, shown.splitlines())) <= 100, shown
