"""What the user can mend: one sentence, exit code 2, nothing left behind, and no waiting for Lightning."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command_fixtures import command, home, train  # noqa: F401
from command_line import SMALL, PreparedCommand, markers, run_folders

IDEA = '''
import torch
from torch import Tensor, nn
from attnframe import Attention, Mask, register_attention


@register_attention("my_idea")
class MyIdea(Attention):
    """The mean of all that may be attended to, `strength` times."""

    def __init__(self, d_model: int, num_heads: int, *, strength: float = 1.0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.strength = strength
        self.value_proj = nn.Linear(d_model, d_model)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = torch.zeros(query.shape[0], 1, query.shape[1], 1, dtype=query.dtype, device=query.device)
        k = torch.zeros(key.shape[0], 1, key.shape[1], 1, dtype=key.dtype, device=key.device)
        return self.strength * self.attend(q, k, self.value_proj(value)[:, None], mask)[:, 0]
'''


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["attention=low_rank_v", "attention.rnak=4"], ["attention.rnak", "did you mean 'rank'"]),
        (["attention=multi_heda"], ["attention=multi_heda", "did you mean 'multi_head'"]),
        (["attention=low_rank_v", "attention.rank=many"], ["attention.rank=many", "int", "default"]),
        (["model.num_heads=7"], ["num_heads=7", "d_model=128"]),
        (["attention@crss=low_rank_v"], ["attention@crss", "did you mean 'cross'"]),
        (["cross.rank=2"], ["cross.rank", "the whole of `attention`", "attention@cross=low_rank_v"]),
        (
            ["backend=flex", "trainer.accelerator=cpu"],
            ["encoder_self", "flex has no backward pass on the CPU", "backend=sdpa can"],
        ),
        (["backend=spda"], ["backend=spda", "did you mean 'sdpa'"]),
        (["model=tinny"], ["model=tinny", "did you mean 'tiny'"]),
        (["logger=false", "--cfg", "job"], ["logger=false: logger is chosen by name", "attnframe list logger"]),
        (["seed=1,2", "logger=3", "-m"], ["logger=3: logger is chosen by name"]),
        (["trainer.max_stps=3"], ["trainer.max_stps", "did you mean 'max_steps'"]),
        (["+trainer.foo=1"], ["trainer.foo", "known"]),
        (["+optimizer.lrr=3"], ["optimizer.lrr", "did you mean 'lr'"]),
        (["+modle.d_model=64"], ["modle", "did you mean 'model'"]),
        (["trainer.max_steps=0"], ["trainer.max_steps=0", "from 1 on", "-1 for no limit"]),
        (["trainer.devices=2"], ["trainer.devices=2", "one device", "trainer=ddp"]),
        (["trainer=ddp", "trainer.devices=0"], ["trainer.devices=0", "how many"]),
        (["trainer=ddp", "trainer.devices=auto"], ["trainer.devices=auto", "how many"]),
        (["trainer=ddp", "trainer.num_nodes=0"], ["trainer.num_nodes=0"]),
        (["trainer=ddp", "trainer.num_nodes=2"], ["trainer.num_nodes=2", "torchrun"]),
        (["trainer.strategy=ddp_spawn"], ["trainer.strategy=ddp_spawn", "did you mean 'ddp'", "in a sweep"]),
        (["trainer=fsdp", "trainer.precision=64"], ["trainer.precision=64", "fsdp"]),
        (["decoding=beam", "decoding.beam_size=0"], ["decoding.beam_size=0", "at least 1"]),
        (["name=../elsewhere"], ["name=../elsewhere", "no slash"]),
        (["seed=x"], ["seed=x: it must be a whole number"]),
        (["seed=-1"], ["seed=-1: it must be a whole number from 0 to 4294967295"]),
        (
            ["optimizer.label_smoothing=2"],
            ["optimizer.label_smoothing=2: it must be a finite number from 0 to below 1"],
        ),
        (["optimizer.betas=0.9"], ["optimizer.betas=0.9: this is a list, in brackets: optimizer.betas=[0.9]"]),
        (["trainer.accelerator=gpuu"], ["trainer.accelerator=gpuu", "did you mean 'gpu'"]),
        (["model=gpt3"], ["decoder_only", "describe"]),
        (["layers.cross=[multi_head,uniform,self]"], ["layers.cross", "3 variants", "2 layers"]),
        (["layers.cross=[multi_head,{rank: 3}]"], ["layers.cross", "name"]),
        (["layers.cross=[multi_head,unifrom]"], ["layers.cross", "did you mean 'uniform'"]),
        (["layers.cross=[multi_head,{name: low_rank_v, rnak: 3}]"], ["layers.cross", "rnak", "rank"]),
        (["foo bar"], ["'foo bar'", "KEY=VALUE"]),
        (["model.encoder.d_model=48", "attention@cross=multi_head"], ["cross"]),
        (["model.dropout=1.5"], ["model.dropout=1.5"]),
        (["model.head_dim=5"], ["model.head_dim=5", "32"]),
        (["model.num_layers=0"], ["model.num_layers=0"]),
        (["match=parms"], ["match=parms", "did you mean 'params'"]),
        (["match=params", "match_to=slef"], ["match_to=slef", "did you mean 'self'"]),
        (["mtach=params"], ["mtach", "did you mean 'match'"]),
        (["trainer.max_time=00:00:05:00"], ["scheduler=warmup_cosine", "use scheduler=inverse_square_root"]),
        (["optimizer.z_loss_weight=-1"], ["optimizer.z_loss_weight=-1", "0 or a number above it"]),
        (["callbacks.max_score.threshold=0"], ["callbacks.max_score.threshold=0", "null"]),
        (
            ["attention@cross=linear", "optimizer.entropy_weight=0.1"],
            ["cross: linear computes its attention itself", "optimizer.entropy_weight=0.1"],
        ),
        (["lgger=csv"], ["lgger", "did you mean 'logger'"]),
        (["experiment=narow_encoder"], ["experiment=narow_encoder", "did you mean 'narrow_encoder'"]),
    ],
    ids=lambda value: " ".join(value) if "=" in value[0] or " " in value[0] else "",
)
def test_one_sentence(
    command: PreparedCommand,  # noqa: F811
    tmp_path: Path,
    arguments: list[str],
    said: list[str],
) -> None:
    finished = command("train", *arguments, cwd=tmp_path)
    (sentence,) = finished.stderr.splitlines()
    assert sentence.startswith("attnframe train: ")
    for part in said:
        assert part in sentence
    assert "Traceback" not in finished.stderr
    assert "HYDRA_FULL_ERROR" not in finished.stderr
    assert (finished.status, finished.stdout) == (2, "")
    assert os.listdir(tmp_path) == []  # noqa: PTH208
    assert "torch" in finished.modules
    for heavy in ("lightning", "wandb", "sacrebleu", "matplotlib"):
        assert heavy not in finished.modules


@pytest.mark.parametrize(
    "arguments", [["-m", "attention=self,multi_heda"], ["attention=self,uniform", "modle=tiny", "-m"]]
)
def test_a_sweep_with_a_mistake_does_not_start(
    command: PreparedCommand,  # noqa: F811
    tmp_path: Path,
    arguments: list[str],
) -> None:
    finished = command("train", *SMALL, *arguments, cwd=tmp_path)
    (sentence,) = finished.stderr.splitlines()
    assert "multi_head" in sentence or "modle" in sentence
    assert (finished.status, finished.stdout) == (2, "")
    assert run_folders(tmp_path) == []
    assert "lightning" not in finished.modules


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["optimizer.lr=-1,-2"], "optimizer.lr=-1: it must be a finite number from 0 on"),
        (["seed=1,2", "hydra.sweeper.retries=-1"], "hydra.sweeper.retries=-1 must be at least 0"),
        (["seed=1,2", "hydra.sweeper.max_batch_size=0"], "hydra.sweeper.max_batch_size=0 must be at least 1"),
    ],
)
def test_a_sweep_of_values_that_make_no_sense_has_no_folder(
    command: PreparedCommand,  # noqa: F811
    tmp_path: Path,
    arguments: list[str],
    said: str,
) -> None:
    finished = command("train", "-m", *SMALL, *arguments, cwd=tmp_path)
    (sentence,) = finished.stderr.splitlines()
    assert said in sentence
    assert (finished.status, finished.stdout) == (2, "")
    assert os.listdir(tmp_path) == []  # noqa: PTH208


def test_help_and_the_printed_config_cost_little(command: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    for arguments, said in (
        (["-h"], "attnframe train attention=low_rank_v attention.rank=4"),
        (["--cfg", "job", "--resolve"], "num_heads: 4"),
        (["--help"], "low_rank_v"),
    ):
        finished = command("train", *arguments, cwd=tmp_path)
        assert (finished.status, finished.stderr) == (0, "")
        assert said in finished.stdout
        assert "lightning" not in finished.modules
    assert not (tmp_path / "outputs").exists()


@pytest.mark.slow
def test_an_existing_run_is_never_overwritten(train: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    chosen = [*SMALL, "trainer.max_steps=2", "hydra.run.dir=mine", "callbacks.patterns.sentences=0"]
    assert train("train", *chosen, cwd=tmp_path).status == 0
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")}
    finished = train("train", *chosen, "seed=2", cwd=tmp_path)
    (sentence,) = finished.stderr.splitlines()
    assert "hydra.run.dir=mine" in sentence
    assert finished.status == 2
    assert {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in tmp_path.rglob("*")} == before


def test_one_file_is_enough(command: PreparedCommand, train: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "my_idea.py").write_text(IDEA)
    listed = command("list", "attention", cwd=tmp_path)
    assert listed.status == 0
    assert "my_idea" in listed.stdout
    assert "strength" in listed.stdout
    assert "my_idea" in command("train", "--help", cwd=tmp_path).stdout
    finished = train("train", *SMALL, "attention=my_idea", "attention.strength=0.5", cwd=tmp_path)
    assert (finished.status, finished.stderr) == (0, "")
    (run,) = run_folders(tmp_path)
    assert markers(run) == ["DONE"]
    assert "my_idea.py" in (run / "train.log").read_text()
    refused = command("train", "attention=my_idea", "attention.strenth=0.5", cwd=tmp_path)
    assert "did you mean 'strength'" in refused.stderr


def test_a_plugin_that_cannot_be_imported_says_why(command: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "my_idea.py").write_text("import nothing_of_that_name\n" + IDEA)
    finished = command("train", "attention=my_idea", cwd=tmp_path)
    warning, sentence = finished.stderr.splitlines()
    assert "my_idea.py" in warning
    assert "nothing_of_that_name" in sentence
    assert finished.status == 2


def test_a_variant_that_raises_is_told_in_one_sentence(command: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "plugins").mkdir()
    text = IDEA.replace("        q = torch", "        assert self.strength == 2, 'not yet'\n        q = torch")
    (tmp_path / "plugins" / "my_idea.py").write_text(text)
    default = command("train", "attention=my_idea", cwd=tmp_path)
    (sentence,) = default.stderr.splitlines()
    assert "encoder_self: my_idea raises AssertionError: not yet" in sentence
    assert "`attnframe check my_idea`" in sentence
    assert (default.status, default.stdout) == (1, "")
    chosen = command("train", "attention=my_idea", "attention.strength=0.5", cwd=tmp_path)
    (sentence,) = chosen.stderr.splitlines()
    assert "encoder_self: my_idea(strength=0.5) raises AssertionError: not yet" in sentence
    assert (chosen.status, chosen.stdout) == (2, "")


def test_a_config_that_shadows_a_variant_is_refused(command: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "conf" / "attention").mkdir(parents=True)
    (tmp_path / "conf" / "attention" / "multi_head.yaml").write_text("name: multi_head\n")
    finished = command("train", cwd=tmp_path)
    (sentence,) = finished.stderr.splitlines()
    assert finished.status == 2
    assert str(tmp_path / "conf" / "attention" / "multi_head.yaml") in sentence
    assert "attention/multi_head.py" in sentence


def test_a_users_configs_are_added_and_ours_stay(command: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "conf" / "experiment").mkdir(parents=True)
    (tmp_path / "conf" / "experiment" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /attention: low_rank_v\nseed: 17\n"
    )
    (tmp_path / "conf" / "train.yaml").write_text("seed: 99\n")
    (tmp_path / "conf" / "model").mkdir()
    (tmp_path / "conf" / "model" / "tiny.yaml").write_text("d_model: 6\n")
    plain = command("train", "--cfg", "job", "--resolve", cwd=tmp_path)
    assert (plain.status, plain.stderr) == (0, "")
    assert "seed: 1\n" in plain.stdout
    assert "d_model: 128" in plain.stdout
    mine = command("train", "experiment=mine", "--cfg", "job", "--resolve", cwd=tmp_path)
    assert (mine.status, mine.stderr) == (0, "")
    assert "seed: 17\n" in mine.stdout
    assert "name: low_rank_v" in mine.stdout
