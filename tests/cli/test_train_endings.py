"""How runs end that do not simply finish, and sweeps."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
import torch
from command_fixtures import home, train  # noqa: F401
from command_line import SMALL, PreparedCommand, environment, markers, run_folders
from stopping import train_and_signal
from terminal import printed_at_a_terminal
from wandb_file import read_wandb_run

from attnframe import registry

BREAKS = '''
import torch
from torch import Tensor, nn
from attnframe import Attention, Mask, register_attention


@register_attention("breaks")
class Breaks(Attention):
    """The query, until it breaks or returns another shape."""

    def __init__(self, d_model: int, *, after: int = 4, shape: bool = False) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.after, self.shape, self.steps = after, shape, 0

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        if self.training and query.device.type != "meta":
            self.steps += 1
        if self.steps > self.after and self.shape:
            return query[..., :3] * torch.nan
        if self.steps > self.after:
            raise RuntimeError("the idea\\nwas wrong")
        return query * self.weight
'''


def put_plugin(cwd: Path) -> None:
    (cwd / "plugins").mkdir()
    (cwd / "plugins" / "breaks.py").write_text(BREAKS)


@pytest.mark.slow
def test_a_run_that_fails_says_so_everywhere(train: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    put_plugin(tmp_path)
    finished = train("train", *SMALL, "attention=breaks", "attention.after=7", "logger=wandb", cwd=tmp_path)
    assert finished.status == 1
    (sentence,) = finished.stderr.splitlines()
    (run,) = run_folders(tmp_path)
    assert sentence.startswith("attnframe train: RuntimeError: the idea was wrong; raised by ")
    assert "breaks in encoder_self layer 1" in sentence
    assert "`attnframe check breaks`" in sentence
    assert str(run / "error.txt") in sentence or str((run / "error.txt").relative_to(tmp_path)) in sentence
    assert markers(run) == ["FAILED"]
    text = (run / "error.txt").read_text(encoding="utf-8")
    assert text.startswith("Traceback")
    assert text.endswith("RuntimeError: the idea\nwas wrong\n")
    assert "breaks.py" in text
    assert not (run / "results.json").exists()
    (wandb_file,) = run.rglob("*.wandb")
    logged = read_wandb_run(wandb_file)
    assert logged.exit_code == 1
    assert logged.config["attention"]["after"] == 7
    assert [row["trainer/global_step"] for row in logged.rows if "train/loss" in row] == [5]


def test_a_variant_that_returns_another_shape_is_told_so(train: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    put_plugin(tmp_path)
    chosen = ["attention=breaks", "attention.after=7", "attention.shape=true", "logger=wandb"]
    finished = train("train", *SMALL, *chosen, cwd=tmp_path)
    (sentence,) = finished.stderr.splitlines()
    assert "shape" in sentence
    assert finished.status in (1, 2)
    (run,) = run_folders(tmp_path)
    assert markers(run) == ["FAILED"]
    assert "shape" in (run / "error.txt").read_text(encoding="utf-8")
    (wandb_file,) = run.rglob("*.wandb")
    assert read_wandb_run(wandb_file).exit_code == 1


@pytest.mark.slow
def test_a_sweep_is_a_run_for_each(train: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    chosen = ["trainer.max_steps=3", "logger=wandb", "attention=self,uniform"]
    finished = train("train", *SMALL, *chosen, "-m", cwd=tmp_path)
    assert (finished.status, finished.stderr) == (0, "")
    _assert_all_done(tmp_path, ["self", "uniform"])


@pytest.mark.slow
def test_a_sweep_over_every_variant(train: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    variants = [name for name, variant in registry.variants().items() if "attnframe" in Path(variant.file).parts]
    assert {"multi_head", "cross", "talking_heads"} <= set(variants)
    finished = train("train", "-m", *SMALL, "logger=wandb", f"attention={','.join(variants)}", cwd=tmp_path)
    assert (finished.status, finished.stderr) == (0, "")
    _assert_all_done(tmp_path, variants)


def _assert_all_done(cwd: Path, variants: list[str]) -> None:
    runs = run_folders(cwd)
    assert len(runs) == len(variants)
    assert len({run.parent for run in runs}) == 1
    found = []
    ids = set()
    for run in runs:
        assert markers(run) == ["DONE"]
        (wandb_file,) = run.rglob("*.wandb")
        logged = read_wandb_run(wandb_file)
        assert logged.exit_code == 0
        assert sum("test/loss" in row for row in logged.rows) == 1
        assert logged.config["logger"]["wandb"]["group"] == run.parent.name
        found.append(logged.config["attention"]["name"])
        ids.add(logged.run_id)
        assert (run / "train.log").exists()
    assert found == variants
    assert len(ids) == len(variants)


@pytest.mark.slow
def test_a_failing_job_does_not_stop_the_sweep(train: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    put_plugin(tmp_path)
    chosen = ["trainer.max_steps=40", "attention=self,breaks,uniform", "callbacks.patterns.sentences=0"]
    finished = train("train", "-m", *SMALL, *chosen, cwd=tmp_path)
    assert finished.status == 1
    (sentence,) = finished.stderr.splitlines()
    assert sentence.startswith("attnframe train: attention=breaks: RuntimeError: the idea was wrong; see ")
    found = {run.name.partition("_")[0]: run for run in run_folders(tmp_path)}
    assert {name: markers(run) for name, run in found.items()} == {
        "attention-breaks": ["FAILED"],
        "attention-self": ["DONE"],
        "attention-uniform": ["DONE"],
    }
    failed = found["attention-breaks"]
    assert str((failed / "error.txt").relative_to(tmp_path)) in sentence
    assert (failed / "error.txt").read_text().startswith("Traceback")


@pytest.mark.slow
def test_nothing_is_asked_in_a_terminal(home: Path, tmp_path: Path) -> None:  # noqa: F811
    """A person at a terminal without a W&B account: the run goes through with no key pressed."""
    arguments = ["train", *SMALL, "trainer.max_steps=3", "logger=wandb"]
    text = printed_at_a_terminal(*arguments, cwd=tmp_path, home=home, columns=200, seconds=90)
    (run,) = run_folders(tmp_path)
    assert markers(run) == ["DONE"]
    (wandb_file,) = run.rglob("*.wandb")
    assert "offline-run" in str(wandb_file)
    assert "exact match" in text
    assert "Enter" not in text
    assert "Traceback" not in text


ENDLESS = (*SMALL, "trainer.max_steps=100000", "trainer.val_check_interval=100000")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_keeps_its_state(home: Path, tmp_path: Path, number: signal.Signals) -> None:  # noqa: F811
    done = train_and_signal([*ENDLESS, "logger=wandb"], environment(home), tmp_path, number, step=10)
    assert done.returncode == 130
    (sentence,) = done.stderr.splitlines()
    assert "stopped after step" in sentence
    assert done.stdout.startswith("run folder: ")
    (run,) = run_folders(tmp_path)
    assert markers(run) == ["INTERRUPTED"]
    assert not (run / "error.txt").exists()
    last = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)
    advice = f"go on with: attnframe train resume={run.relative_to(tmp_path)}"
    assert sentence == f"attnframe train: stopped after step {last['global_step']}; {advice}"
    assert last["global_step"] >= 10
    (wandb_file,) = run.rglob("*.wandb")
    assert read_wandb_run(wandb_file).exit_code == 130


@pytest.mark.slow
def test_an_interrupted_sweep_starts_no_further_job(home: Path, tmp_path: Path) -> None:  # noqa: F811
    done = train_and_signal(["-m", *ENDLESS, "seed=1,2,3"], environment(home), tmp_path, signal.SIGINT, step=10)
    assert done.returncode == 130
    (run,) = run_folders(tmp_path)
    assert markers(run) == ["INTERRUPTED"]
    (sentence,) = done.stderr.splitlines()
    assert sentence.endswith(f" seed=1,2,3 sweep={run.parent.name}")
    assert "; go on with: attnframe train -m " in sentence
