"""`attnframe train resume=DIR`: going on after a stop, and what is refused."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from command_fixtures import command, home, train  # noqa: F401
from command_line import SMALL, PreparedCommand, environment, markers, run_folders
from stopping import train_and_signal
from wandb_file import WandbRun, read_wandb_run

TIMED = ("seconds", "train/tokens_per_second")

# Presses Ctrl-C itself, so that the stop is at a known step.
PRESSES = '''
import signal
from pathlib import Path
from torch import Tensor, nn
import torch
from attnframe import Attention, Mask, merge_heads, register_attention, split_heads


@register_attention("presses")
class Presses(Attention):
    """softmax(QK\u1d40/\u221ad_k)V of the embeddings, with Ctrl-C in the training step that the file `press` names."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(d_model))
        self.steps = 0

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        file = Path("press")
        if self.training and query.device.type != "meta" and (self.site, self.layer) == ("cross", 0):
            self.steps += 1
            if file.exists() and int(file.read_text()) == self.steps:
                file.unlink()
                signal.raise_signal(signal.SIGINT)
        q, k, v = (split_heads(x, 1) for x in (query * self.scale, key, value))
        return merge_heads(self.attend(q, k, v, mask))
'''


def untimed_rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [{key: value for key, value in row.items() if key not in TIMED} for row in csv.DictReader(file)]


def assert_same_end(run: Path, whole: Path) -> None:
    assert markers(run) == ["DONE"]
    assert untimed_rows(run) == untimed_rows(whole)
    for name in ("last.ckpt", "best.ckpt"):
        ours, theirs = (torch.load(path / "checkpoints" / name, weights_only=True) for path in (run, whole))
        assert ours["global_step"] == theirs["global_step"]
        assert all(torch.equal(ours["state_dict"][key], value) for key, value in theirs["state_dict"].items())
        states, expected = (loaded["optimizer_states"][0]["state"] for loaded in (ours, theirs))
        assert states.keys() == expected.keys()
        assert all(torch.equal(states[index][key], expected[index][key]) for index in states for key in states[index])
    assert (run / "predictions.tsv").read_bytes() == (whole / "predictions.tsv").read_bytes()


def logged_steps(*parts: WandbRun) -> dict[str, list[int]]:
    """The steps at which each key was logged, over all parts of a run."""
    steps: dict[str, list[int]] = {}
    for part in parts:
        for row in part.rows:
            for key in row:
                steps.setdefault(key, []).append(row["trainer/global_step"])
    return {key: found for key, found in steps.items() if key.startswith(("train/", "val/", "patterns/", "test/"))}


def wandb_parts(run: Path) -> list[WandbRun]:
    return [read_wandb_run(file) for file in sorted(run.rglob("*.wandb"))]


@pytest.mark.slow
def test_a_stopped_run_goes_on_as_if_it_had_not_been(train: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    """In a folder whose name a shell would take apart, and with a plugin."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "presses.py").write_text(PRESSES, encoding="utf-8")
    chosen = [*SMALL, "attention=presses", "logger=[wandb,csv]", "callbacks.patterns.sentences=1"]
    whole = tmp_path / "whole"
    finished = train("train", *chosen, f"hydra.run.dir={whole}", cwd=tmp_path)
    assert (finished.status, finished.stderr) == (0, "")

    run = tmp_path / "my runs" / "a=1"
    (tmp_path / "press").write_text("12")
    stopped = train("train", *chosen, "hydra.run.dir='my runs/a=1'", cwd=tmp_path)
    assert stopped.status == 130
    advice = "go on with: attnframe train 'resume=my runs/a=1'"
    assert stopped.stderr == f"attnframe train: stopped after step 12; {advice}\n"
    assert markers(run) == ["INTERRUPTED"]
    log = (run / "train.log").read_text(encoding="utf-8")

    resumed = train("train", "resume=my runs/a=1/", cwd=tmp_path)
    assert (resumed.status, resumed.stderr) == (0, "")
    folder, step, *table = resumed.stdout.splitlines()
    assert (folder, step) == ("run folder: my runs/a=1", "going on after step 12")
    assert [line.split("\t")[0] for line in table[1:5]] == ["test", "unseen_pairs", "composition", "longer"]
    assert_same_end(run, whole)

    parts, (expected,) = wandb_parts(run), wandb_parts(whole)
    assert [part.exit_code for part in parts] == [130, 0]
    assert len(parts) == 2
    assert {part.run_id for part in parts} == {json.loads((run / "manifest.json").read_text())["wandb_id"]}
    assert logged_steps(*parts) == logged_steps(expected)
    assert logged_steps(parts[0])["train/loss"] == [5, 10]
    assert logged_steps(parts[1])["val/loss"] == [20, 20]  # the validation, and the results
    mirrored = [(run / "csv" / name).read_text().count("\n") - 1 for name in ("metrics.csv", "part_1/metrics.csv")]
    assert sum(mirrored) == (whole / "csv" / "metrics.csv").read_text().count("\n") - 1

    whole_log = (run / "train.log").read_text(encoding="utf-8")
    assert whole_log.startswith(log)
    added = whole_log.removeprefix(log).splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} [A-Z]+ attnframe[.\w]*: ", line) for line in added)
    assert any(line.endswith("going on after step 12") for line in added)
    assert any("plugins/presses.py" in line for line in added)

    (tmp_path / "plugins" / "presses.py").unlink()
    gone = train("train", "resume=my runs/a=1", "trainer.max_steps=30", cwd=tmp_path)
    assert gone.status == 2
    (sentence,) = gone.stderr.splitlines()
    assert sentence.startswith("attnframe train: resume=my runs/a=1: this run cannot be built again: ")
    assert "presses" in sentence
    assert "plugins/presses.py" in sentence
    assert markers(run) == ["DONE"]


@pytest.fixture(scope="module")
def done(train: PreparedCommand, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """A working directory with the run `done` in it."""
    cwd = tmp_path_factory.mktemp("done")
    chosen = [*SMALL, "trainer.max_steps=3", "callbacks.patterns.sentences=0", "hydra.run.dir=done"]
    finished = train("train", *chosen, cwd=cwd)
    assert (finished.status, finished.stderr) == (0, "")
    (cwd / "empty").mkdir()
    for name, manifest in (("claimed", ""), ("broken", '{"settings": '), ("other", '{"answer": 42}')):
        (cwd / name).mkdir()
        (cwd / name / "manifest.json").write_text(manifest)
    return cwd


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["resume=don"], r"resume=don: there is no such folder.*did you mean 'done'\?"),
        (["resume=empty"], r"resume=empty: this folder holds no run"),
        (["resume=claimed"], r"claimed/manifest\.json does not say what ran: the run was stopped before it began"),
        (["resume=broken"], r"broken/manifest\.json does not say what ran"),
        (["resume=other"], r"other/manifest\.json does not say what ran"),
        (["resume="], r"resume= takes the folder of one run"),
        (["resume=done", "resume=done"], r"resume= takes the folder of one run"),
        (["-m", "resume=done"], r"-m: resume= goes on with one run and makes no sweep"),
        (["resume=done", "trainer.max_steps=5,6"], r"trainer\.max_steps=5,6: .* makes no sweep"),
        (["resume=done", "--cfg"], r"--cfg: with resume= there are no flags"),
        (["resume=done", "seed=2"], r"seed=2: a run that goes on keeps its own config; only its limits may be new"),
        (["resume=done", "trainer.max_step=5"], r"did you mean 'trainer\.max_steps'\?"),
        (["resume=done", "+trainer.max_steps=5"], r"only its limits may be new"),
        (["resume=done", "trainer.max_steps=many"], r"trainer\.max_steps: Value 'many' .* Integer"),
        (["resume=done", "trainer.max_steps=[5"], r"is no override"),
        (["resume=done", "trainer.max_steps=0"], r"trainer\.max_steps=0: .* from 1 on"),
    ],
)
def test_refusals_are_one_sentence_and_cost_no_lightning(
    command: PreparedCommand,  # noqa: F811
    done: Path,
    arguments: list[str],
    sentence: str,
) -> None:
    before = snapshot(done)
    finished = command("train", *arguments, cwd=done)
    assert finished.status == 2
    (line,) = finished.stderr.splitlines()
    assert re.search(f"^attnframe train: .*{sentence}", line), line
    assert finished.stdout == ""
    assert "lightning" not in finished.modules
    assert snapshot(done) == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["resume=done"], r"done is done: it has reached trainer\.max_steps=3, .*; give a larger trainer\.max_steps"),
        (["resume=./done/", "trainer.max_steps=2"], r"trainer\.max_steps=2: the run is beyond that"),
        (["resume=done", "trainer.max_steps=9", "trainer.max_time=soon"], r"max_time=soon: write it as DD:HH:MM:SS"),
    ],
)
def test_a_run_that_may_not_go_on_is_left_as_it_was(
    train: PreparedCommand,  # noqa: F811
    done: Path,
    arguments: list[str],
    sentence: str,
) -> None:
    before = snapshot(done)
    finished = train("train", *arguments, cwd=done)
    assert finished.status == 2
    (line,) = finished.stderr.splitlines()
    assert re.search(f"^attnframe train: .*{sentence}", line), line
    assert snapshot(done) == before


@pytest.mark.slow
def test_a_failure_after_going_on_is_one_of_the_run(train: PreparedCommand, done: Path) -> None:  # noqa: F811
    run = done / "done"
    predictions = (run / "predictions.tsv").read_bytes()
    (run / "predictions.tsv").unlink()
    (run / "predictions.tsv").mkdir()
    arguments = [f"resume={run}", "trainer.max_steps=4"]
    failed = train("train", *arguments, cwd=done / "empty")
    assert failed.status == 1
    (sentence,) = failed.stderr.splitlines()
    assert sentence.startswith("attnframe train: IsADirectoryError: ")
    assert markers(run) == ["FAILED"]
    assert "Traceback" in (run / "error.txt").read_text(encoding="utf-8")
    (run / "predictions.tsv").rmdir()
    finished = train("train", *arguments[:1], cwd=done / "empty")
    assert (finished.status, finished.stderr) == (0, "")
    assert markers(run) == ["DONE"]
    assert not (run / "error.txt").exists()
    assert (run / "predictions.tsv").read_bytes().count(b"\n") == predictions.count(b"\n")
    manifest: dict[str, Any] = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["settings"]["trainer"]["max_steps"] == 4
    assert [(entry["step"], entry["limits"]) for entry in manifest["resumed"]] == [(3, {"max_steps": 4}), (4, {})]


def snapshot(folder: Path) -> dict[str, bytes]:
    """Every file but the lock, which says who holds it."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.name != ".lock")
    return {os.path.relpath(file, folder): file.read_bytes() for file in files}


@pytest.mark.slow
def test_ctrl_c_and_going_on(home: Path, train: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    """A real signal from outside, wherever it comes."""
    chosen = [*SMALL, "scheduler=inverse_square_root", "callbacks.patterns.sentences=0"]
    endless = [*chosen, "trainer.max_steps=100000", "trainer.val_check_interval=7"]
    stopped = train_and_signal(endless, environment(home), tmp_path, signal.SIGINT, step=10)
    assert stopped.returncode == 130
    (run,) = run_folders(tmp_path)
    assert markers(run) == ["INTERRUPTED"]
    step = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["global_step"]
    (advice,) = re.findall(r"go on with: attnframe train (\S+)\n", stopped.stderr)
    end = f"trainer.max_steps={step + 4}"
    resumed = train("train", advice, end, cwd=tmp_path)
    assert (resumed.status, resumed.stderr) == (0, "")
    whole = tmp_path / "whole"
    finished = train("train", *endless, end, f"hydra.run.dir={whole}", cwd=tmp_path)
    assert (finished.status, finished.stderr) == (0, "")
    assert_same_end(run, whole)


@pytest.mark.slow
def test_the_default_run_stopped_once_and_twice(home: Path, train: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    chosen = ["trainer.max_steps=300"]
    whole = tmp_path / "whole"
    assert train("train", *chosen, f"hydra.run.dir={whole}", cwd=tmp_path).status == 0
    for name, steps in (("once", [150]), ("twice", [100, 200])):
        cwd = tmp_path / name
        cwd.mkdir()
        arguments = [*chosen, "hydra.run.dir=run"]
        for step in steps:
            stopped = train_and_signal(arguments, environment(home), cwd, signal.SIGINT, step=step)
            assert stopped.returncode == 130
            last = torch.load(cwd / "run" / "checkpoints" / "last.ckpt", weights_only=True)
            assert step <= last["global_step"] < step + 20
            arguments = ["resume=run"]
        resumed = train("train", *arguments, cwd=cwd)
        assert (resumed.status, resumed.stderr) == (0, "")
        assert_same_end(cwd / "run", whole)
        parts = wandb_parts(cwd / "run")
        assert [part.exit_code for part in parts] == [*[130] * len(steps), 0]
        assert len({part.run_id for part in parts}) == 1
        assert logged_steps(*parts) == logged_steps(*wandb_parts(whole))
