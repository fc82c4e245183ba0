"""`attnframe compare`: what it prints and writes, where, and what it refuses in one sentence."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import webbrowser
from pathlib import Path

import numpy as np
import pytest
from command_line import environment
from synthetic_runs import draw_hits, make_run
from wandb_file import read_wandb_run

from attnframe import UserError
from attnframe.cli import compare

FILES = ["comparison.csv", "comparison.html", "comparison.md", "comparison.tex"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a sweep of two variants with two seeds, and a run beside it."""
    random = np.random.default_rng(2)
    for number, (variant, seed) in enumerate([("multi_head", 1), ("multi_head", 2), ("uniform", 1), ("uniform", 2)]):
        exact = {"test": draw_hits(random, 0.9 if variant == "multi_head" else 0.1, 101), "longer": [True, False]}
        folder = tmp_path / "outputs" / "sweeps" / "s" / f"{number}_run"
        make_run(folder, seed=seed, variant=variant, exact=exact)
    make_run(tmp_path / "outputs" / "alone" / "t", changes={"optimizer.lr": 0.1})
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    found: list[str] = []

    class Browser(webbrowser.BackgroundBrowser):
        def __init__(self) -> None:
            pass

        def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
            found.append(url)
            return True

    monkeypatch.delenv("BROWSER", raising=False)
    monkeypatch.setattr(webbrowser, "get", Browser)
    return found


def test_it_prints_tables_writes_four_files_and_opens_the_page(
    runs: Path, opened: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare.main(["outputs/sweeps/s"]) == 0
    out, err = capsys.readouterr()
    sweep = runs / "outputs" / "sweeps" / "s"
    assert sorted(file.name for file in sweep.iterdir() if file.is_file()) == FILES
    assert opened == [(sweep / "comparison.html").as_uri()]
    scores, *others = out.split("\n\n")
    rows = [line.split("\t") for line in scores.splitlines()]
    assert rows[0] == ["group", "runs", "exact_match", "bleu", "loss"]
    assert [row[:2] for row in rows[1:]] == [["multi_head", "2"], ["uniform", "2"]]
    assert others[1].splitlines()[1].split("\t")[:4] == ["uniform", "multi_head", "test", "exact_match"]
    assert out.splitlines()[-2:] == [
        "page: outputs/sweeps/s/comparison.html",
        "tables: outputs/sweeps/s/comparison.md, .csv and .tex",
    ]
    assert err == ""


def test_a_run_folder_is_left_as_it_is(runs: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in runs.rglob("*_run/**/*")}
    assert len(before) == 4 * 5
    assert compare.main(["run=outputs/sweeps/s/0_run", "--no-open"]) == 0
    assert {file: file.stat().st_mtime_ns for file in runs.rglob("*_run/**/*")} == before
    assert (runs / "outputs" / "sweeps" / "s" / "comparison.html").exists()


def test_files_of_several_folders_go_where_all_of_them_are(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["outputs/sweeps", "outputs/alone/t", "--no-open"]) == 0
    assert sorted(file.name for file in (runs / "outputs").iterdir() if file.is_file()) == FILES
    assert "optimizer.lr=0.1" in capsys.readouterr().out


def test_another_folder(runs: Path, opened: list[str]) -> None:
    (runs / "mine").mkdir()
    (runs / "mine" / "notes.txt").touch()
    assert compare.main(["outputs", "--no-open", "--output", "mine"]) == 0
    assert sorted(file.name for file in (runs / "mine").iterdir()) == [*FILES, "notes.txt"]
    assert compare.main(["outputs", "--no-open", "--output=new/place"]) == 0
    assert (runs / "new" / "place" / "comparison.md").exists()
    assert opened == []


def test_formats(runs: Path, opened: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    written = {"markdown": "md", "csv": "csv", "latex": "tex"}
    for name, ending in written.items():
        assert compare.main(["outputs/sweeps", "--format", name]) == 0
        text = (runs / "outputs" / "sweeps" / f"comparison.{ending}").read_text(encoding="utf-8")
        out = capsys.readouterr().out
        assert out.splitlines()[1:] == text.splitlines()[1:]
        if name == "csv":
            assert {row["group"] for row in csv.DictReader(io.StringIO(out))} == {"multi_head", "uniform"}
    assert opened == []


def test_json(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["outputs/sweeps", "--json", "--metric", "exact_match", "--set", "test"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [group["name"] for group in told["groups"]] == ["multi_head", "uniform"]
    assert [group["seeds"] for group in told["groups"]] == [[1, 2], [1, 2]]
    (one,) = told["differences"]
    assert (one["first"], one["second"], one["measure"], one["set"]) == ("uniform", "multi_head", "exact_match", "test")
    assert one["low"] < one["difference"] < one["high"]
    assert {number["measure"] for number in told["numbers"] if number["set"]} == {"exact_match"}


def test_warnings_go_to_standard_error(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["outputs", "--no-open"]) == 0
    err = capsys.readouterr().err
    assert "has one finished run" in err
    assert len(err.splitlines()) == len(set(err.splitlines()))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "which runs"),
        (["none"], "none: there is no such folder"),
        (["outputs", "--formt", "csv"], "--formt: there is no such flag; did you mean '--format'"),
        (["outputs", "--format", "cvs"], "--format cvs: did you mean 'csv'"),
        (["outputs", "--format"], "--format needs its value: --format FORMAT"),
        (["outputs", "--pairs", "some"], "--pairs some: "),
        (["outputs", "--json=1"], "--json=1: --json takes no value"),
        (["outputs", "--json", "--format=csv"], "--format and --json: give one of them"),
        (["outputs", "seed=1"], "seed=1: compare takes folders and flags, no settings"),
        (["outputs", "--metric", "blue"], "--metric blue: no run has it"),
        (["outputs", "--output", "outputs/sweeps/s/0_run"], "this folder holds a run, and none is changed"),
        (["outputs", "--output", "outputs/sweeps/s/0_run/DONE"], "cannot be written: .*--output FOLDER"),
    ],
)
def test_what_cannot_be_is_refused(arguments: list[str], says: str, runs: Path) -> None:
    with pytest.raises(UserError, match=says):
        compare.main(["--no-open", *arguments])
    assert not list(runs.rglob("comparison.*"))


def test_help_needs_no_torch() -> None:
    code = "import sys; from attnframe.cli.compare import main; main(['-h']); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("attnframe compare DIR")


@pytest.mark.slow
def test_at_wandb_it_is_a_run_of_its_own(runs: Path) -> None:
    code = "import sys; from attnframe.cli.compare import main; main(sys.argv[1:])"
    arguments = ["outputs/sweeps", "--wandb", "--no-open"]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, env=environment(runs)
    )
    assert done.returncode == 0, done.stderr
    (file,) = (runs / "outputs" / "sweeps").rglob("*.wandb")
    run = read_wandb_run(file)
    assert run.name == "Comparison of sweeps"
    assert any(key.startswith("comparison") for key in run.logged())
    assert any(key.startswith("Scores on test") for key in run.logged())
    assert run.exit_code == 0
    assert list(run.config["groups"]) == ["multi_head", "uniform"]
