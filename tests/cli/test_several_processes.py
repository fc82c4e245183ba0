"""One run in several processes: real ones, started by the real command, over gloo on the CPU."""

from __future__ import annotations

import csv
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from command_fixtures import home, train  # noqa: F401
from command_line import SMALL, PreparedCommand, environment, markers, run_folders
from stopping import train_and_signal
from wandb_file import read_wandb_run

from attnframe import load_run

pytestmark = pytest.mark.slow

TIMED = ("seconds", "train/tokens_per_second", "train/seconds", "train/peak_memory_bytes")
# The last step is not one of those that are validated on the way.
ROWS = ("optimizer.entropy_weight=-0.1", "optimizer.z_loss_weight=0.01", "callbacks.max_score.threshold=1.5")
WHOLE = (*SMALL, *ROWS, "model.dropout=0", "trainer.max_steps=53", "logger=wandb", "trainer.gradient_clip_val=0.7")
TWO = {kind: (f"trainer={kind}", "trainer.devices=2", "trainer.accelerator=cpu") for kind in ("ddp", "fsdp")}
FIGURES = {"rel": 1e-5, "abs": 1e-5}


@pytest.fixture(scope="module")
def one(train: PreparedCommand, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The run of one process."""
    return run_of(train, tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module", params=TWO)
def two(request: pytest.FixtureRequest, train: PreparedCommand, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: F811
    """The same run in two processes, by DDP or FSDP."""
    return run_of(train, tmp_path_factory.mktemp(request.param), *TWO[request.param])


def run_of(train: PreparedCommand, folder: Path, *chosen: str) -> Path:  # noqa: F811
    done = train("train", *WHOLE, *chosen, cwd=folder)
    assert (done.status, done.stderr) == (0, "")
    assert done.stdout.count("run folder: ") == done.stdout.count("trained 53 steps") == 1
    (run,) = run_folders(folder)
    assert markers(run) == ["DONE"]
    return run


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def untimed(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in TIMED}


def numbers(results: dict[str, Any]) -> dict[str, float]:
    return {key: value for key, value in untimed(results).items() if isinstance(value, int | float)}


def test_two_processes_learn_what_one_does(one: Path, two: Path) -> None:
    expected, found = rows(one), rows(two)
    assert [row["step"] for row in found] == [row["step"] for row in expected]
    assert sum(bool(row["train/loss"]) for row in expected) == 11
    for row, other in zip(expected, found, strict=True):
        mine, others = ({key: float(value) for key, value in untimed(r).items() if value} for r in (row, other))
        # One score of one head, and squares: no mean evens their rounding out, which grows from step to step.
        for key in [key for key in mine if key.startswith(("train/max_score/", "train/attention_z_loss"))]:
            assert others.pop(key) == pytest.approx(mine.pop(key), rel=1e-3)
        assert others == pytest.approx(mine, **FIGURES)


def test_two_processes_end_in_the_same_scores_and_files(one: Path, two: Path) -> None:
    expected, found = (json.loads((run / "results.json").read_text(encoding="utf-8")) for run in (one, two))
    assert numbers(found) == pytest.approx(numbers(expected), **FIGURES)
    texts = [{key: value for key, value in results.items() if isinstance(value, str)} for results in (expected, found)]
    assert texts[0] == texts[1]
    for name in ("predictions.tsv", "tokenizers.json"):
        assert (two / name).read_bytes() == (one / name).read_bytes()
    assert files(two) == files(one)
    manifests = [json.loads((run / "manifest.json").read_text(encoding="utf-8")) for run in (one, two)]
    assert [manifest["processes"] for manifest in manifests] == [1, 2]
    assert manifests[0]["parameters"] == manifests[1]["parameters"]


def files(run: Path) -> set[str]:
    names = (str(file.relative_to(run)) for file in run.rglob("*"))
    return {name for name in names if not name.startswith("wandb")}


def test_two_processes_are_one_run_at_wandb(two: Path) -> None:
    (file,) = two.rglob("*.wandb")
    logged = read_wandb_run(file)
    assert logged.exit_code == 0
    steps = [row["trainer/global_step"] for row in logged.rows if "train/loss" in row]
    assert steps == [int(row["step"]) for row in rows(two) if row["train/loss"]]


@pytest.mark.parametrize("checkpoint", ["best", "last"])
def test_the_checkpoints_hold_the_whole_model(one: Path, two: Path, checkpoint: str) -> None:
    expected, found = (load_run(run, checkpoint=checkpoint) for run in (one, two))
    src = torch.tensor([[5, 6, 7, 2]])
    logits = [run.model(src, None, torch.tensor([[1, 8, 9]])) for run in (expected, found)]
    torch.testing.assert_close(*logits, rtol=1e-4, atol=1e-4)
    assert found.step == expected.step


@pytest.mark.parametrize("two", ["fsdp"], indirect=True)
def test_a_stopped_run_of_two_processes_goes_on_as_if_it_had_not_been(
    two: Path,
    train: PreparedCommand,  # noqa: F811
    home: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    done = train_and_signal([*WHOLE, *TWO["fsdp"]], environment(home), tmp_path, signal.SIGTERM, step=15)
    (sentence,) = done.stderr.splitlines()
    assert (done.returncode, "go on with: " in sentence) == (130, True)
    (run,) = run_folders(tmp_path)
    assert markers(run) == ["INTERRUPTED"]
    done = train("train", f"resume={run}", cwd=tmp_path)
    assert (done.status, done.stderr) == (0, "")
    assert markers(run) == ["DONE"]
    assert [untimed(row) for row in rows(run)] == [untimed(row) for row in rows(two)]
    last, whole = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in (run, two)
    )
    torch.testing.assert_close(last, whole, rtol=0, atol=0)


def test_each_process_draws_its_own_random_numbers_and_goes_on_with_them(
    train: PreparedCommand,  # noqa: F811
    tmp_path: Path,
) -> None:
    settings = [*SMALL, *TWO["ddp"], "model.dropout=0.3", "scheduler=inverse_square_root"]
    whole, part = tmp_path / "whole", tmp_path / "part"
    for run, steps in ((whole, 19), (part, 13)):
        done = train("train", *settings, f"trainer.max_steps={steps}", f"hydra.run.dir={run}", cwd=tmp_path)
        assert done.status == 0
    state = torch.load(part / "checkpoints" / "last.ckpt", weights_only=True)["callbacks"]["Place"]
    (other,) = state["random_of_others"]
    assert not torch.equal(state["random"]["torch"], other["torch"])
    assert train("train", f"resume={part}", "trainer.max_steps=19", cwd=tmp_path).status == 0
    ends = [torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for run in (part, whole)]
    torch.testing.assert_close(*ends, rtol=0, atol=0)


# In the second process only, so that it is not the first one's own error that is told.
BREAKS = '''
import os, torch
from torch import Tensor, nn
from attnframe import Attention, Mask, register_attention


@register_attention("breaks")
class Breaks(Attention):
    """The query, until it breaks where the environment says a rank."""

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.unused = nn.Parameter(torch.ones(3))
        self.steps = 0

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        self.steps += self.training and query.device.type != "meta"
        if self.steps > 7 and os.environ.get("RANK", "0") == os.environ.get("BREAKS_IN"):
            raise RuntimeError("the idea was wrong")
        return query * self.weight
'''


def test_a_process_that_dies_ends_the_run(train: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "breaks.py").write_text(BREAKS, encoding="utf-8")
    chosen = [*SMALL, *TWO["ddp"], "attention=breaks"]
    done = train("train", *chosen, cwd=tmp_path, env={"BREAKS_IN": "1"})
    assert done.status == 1
    (sentence,) = done.stderr.splitlines()
    assert "process 2 of 2 ended with exit code 1: RuntimeError: the idea was wrong" in sentence
    (run,) = run_folders(tmp_path)
    assert markers(run) == ["FAILED"]
    assert "breaks.py" in (run / "error.txt").read_text(encoding="utf-8")


def test_the_jobs_of_a_sweep_have_processes_of_their_own(train: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    """With a plugin that leaves a parameter out, and batches of fewer rows than processes."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "breaks.py").write_text(BREAKS, encoding="utf-8")
    few = ["data.max_tokens=40", "model.dropout=0"]
    done = train("train", "-m", *SMALL, *TWO["ddp"], *few, "attention=breaks", "seed=1,2", cwd=tmp_path)
    assert (done.status, done.stderr) == (0, "")
    runs = run_folders(tmp_path)
    assert [markers(run) for run in runs] == [["DONE"], ["DONE"]]
    alone = train("train", *SMALL, *few, "attention=breaks", "hydra.run.dir=alone", cwd=tmp_path)
    assert alone.status == 0
    for row, other in zip(rows(tmp_path / "alone"), rows(runs[0]), strict=True):
        assert float(other["train/loss"] or 0) == pytest.approx(float(row["train/loss"] or 0), **FIGURES)
