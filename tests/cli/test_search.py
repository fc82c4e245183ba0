"""`hydra/sweeper=attnframe_optuna`: a search through the command line, with real runs of a second."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest
import yaml
from command_fixtures import command, home, train  # noqa: F401
from command_line import CONSOLE_SCRIPT, SMALL, PreparedCommand, environment
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial

ROOT = Path(__file__).parent.parent.parent
SEARCH = ("-m", "hydra/sweeper=attnframe_optuna", "sweep=mine", *SMALL)
RANKS = (
    "attention=multi_head,low_rank_v",
    "attention.rank=1,2",
    "hydra.sweeper.conditions={attention.rank:'attention=low_rank_v'}",
)


def trials(folder: Path) -> list[FrozenTrial]:
    """Of the study in the sweep's folder."""
    journal = folder / "outputs" / "sweeps" / "mine" / "search.journal"
    if not journal.exists():
        return []
    storage = JournalStorage(JournalFileBackend(str(journal)))
    names = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=names[0], storage=storage).trials if names else []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["attention=multi_head,low_rank_v", "attention.rank=1,2"], ["hydra.sweeper.conditions", "attention.rank:"]),
        (["seed=1,2", "hydra.sweeper.n_trial=3"], ["hydra.sweeper.n_trial", "did you mean 'n_trials'"]),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in [
                (["optimizer.lrr=1,2"], ["optimizer.lrr", "did you mean 'lr'"]),
                (["attention=multi_head,low_rank_w"], ["did you mean 'low_rank_v'"]),
                (["model.d_ff=interval(8,32)"], ["model.d_ff is a whole number", "tag(int"]),
                (["seed=1,2", "hydra.sweeper.n_trials=0"], ["n_trials=0"]),
                (["seed=1,2", "hydra.sweeper.seed=-1"], ["hydra.sweeper.seed=-1"]),
                (["seed=1,2", "hydra.sweeper.max_failure_rate=2"], ["hydra.sweeper.max_failure_rate=2"]),
                (["seed=1"], ["nothing to search"]),
            ]
        ),
    ],
)
def test_what_cannot_be_searched_is_refused_before_the_first_trial(
    command: PreparedCommand,  # noqa: F811
    tmp_path: Path,
    arguments: list[str],
    said: list[str],
) -> None:
    done = command("train", *SEARCH, *arguments, cwd=tmp_path)
    assert done.status == 2
    assert done.stderr.count("\n") == 1
    assert all(text in done.stderr for text in said), done.stderr
    assert not list(tmp_path.rglob("manifest.json"))


@pytest.mark.slow
def test_every_recipe_composes(command: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    recipes = sorted(file.stem for file in (ROOT / "conf" / "hparams_search").glob("*.yaml"))
    assert len(recipes) > 1
    for recipe in recipes:
        shown = command(
            "train", f"hparams_search={recipe}", "--cfg", "hydra", "--package", "hydra.sweeper", cwd=tmp_path
        )
        assert shown.status == 0
        sweeper = yaml.safe_load(shown.stdout)
        assert ("n_trials" in sweeper) == (recipe != "grid")
        # Keys and values that the config has, as a run.
        chosen = [f"{key}={str(space).split(',')[0]}" for key, space in sweeper["params"].items() if "(" not in space]
        kept = [item for item in chosen if item.partition("=")[0] not in sweeper.get("conditions", {})]
        assert command("train", *kept, "--cfg", "job", cwd=tmp_path).status == 0


@pytest.mark.slow
def test_the_best_line_is_that_of_a_run_even_where_the_command_sets_a_recipe_up(
    train: PreparedCommand,  # noqa: F811
    tmp_path: Path,
) -> None:
    recipe = ("hparams_search=optuna_default", "hydra.sweeper.n_trials=1")
    done = train("train", "-m", *recipe, *SMALL, cwd=tmp_path)
    assert done.status == 0
    (line,) = [line.removeprefix("best: ") for line in done.stdout.splitlines() if line.startswith("best: ")]
    assert set(SMALL) <= set(shlex.split(line))
    assert "hparams_search" not in line
    assert "hydra" not in line


def test_the_sweep_of_wandb_is_one_that_train_takes(command: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    sweep = yaml.safe_load((ROOT / "docs" / "wandb_sweep.yaml").read_text(encoding="utf-8"))
    assert sweep["command"][1:] == ["attnframe", "train", "${args_no_hyphens}"]
    spaces = sweep["parameters"]
    values = {key: space.get("values", [space.get("min", space.get("value"))]) for key, space in spaces.items()}
    for index in range(len(values["attention"])):
        # What W&B puts in the place of ${args_no_hyphens}.
        arguments = [f"{key}={of[min(index, len(of) - 1)]}" for key, of in values.items()]
        assert command("train", *arguments, "--cfg", "job", cwd=tmp_path).status == 0


@pytest.mark.slow
def test_a_search_that_is_killed_goes_on_and_ends_with_the_best(
    train: PreparedCommand,  # noqa: F811
    home: Path,  # noqa: F811
    tmp_path: Path,
) -> None:
    arguments = [
        *SEARCH,
        *RANKS,
        "optimizer.lr=tag(log,interval(1e-4,1e5))",
        "scheduler.warmup_steps=2",
        "trainer.val_check_interval=5",
        "hydra.sweeper.pruner.startup_trials=2",
        "hydra.sweeper.seed=4",
    ]
    process = subprocess.Popen(
        [sys.executable, "-c", CONSOLE_SCRIPT, "train", *arguments, "hydra.sweeper.n_trials=9"],
        cwd=tmp_path,
        env=environment(home),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 300
    while sum(trial.state.is_finished() for trial in trials(tmp_path)) < 3:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = [(trial.state, trial.values) for trial in trials(tmp_path) if trial.state.is_finished()]

    done = train("train", *arguments, "hydra.sweeper.n_trials=9", cwd=tmp_path)
    assert done.status == 0, done.stderr
    after = trials(tmp_path)
    assert len(after) == 9
    assert all(trial.state.is_finished() for trial in after)
    assert [(trial.state, trial.values) for trial in after[: len(before)]] == before
    states = [trial.state.name for trial in after]
    assert states.count("PRUNED") >= 1
    assert states.count("FAIL") >= 1
    # The kill may have come while a trial's values were being chosen: it has failed, and there is no run of it.
    begun = [trial for trial in after if trial.user_attrs.get("reason") != "killed before it began"]
    assert len(begun) >= 8
    assert all(trial in begun or trial.state.name == "FAIL" for trial in after)
    assert all(("attention.rank" in t.params) == (t.params["attention"] == "low_rank_v") for t in begun)

    folder = tmp_path / "outputs" / "sweeps" / "mine"
    assert (folder / "search.html").exists()
    for trial in begun:
        run = folder / trial.user_attrs["folder"]
        manifest = json.loads((run / "manifest.json").read_text(encoding="utf-8"))
        assert manifest["search"] == {"study": "mine", "trial": trial.number, "trials": 9}
        marker = "DONE" if trial.state.name == "COMPLETE" else "INTERRUPTED"
        assert (run / marker).exists()
        assert ("pruned by the search" in _text(run / "error.txt")) == (trial.state.name == "PRUNED")
    best = min((trial for trial in after if trial.state.name == "COMPLETE"), key=lambda trial: trial.value or 0.0)
    (line,) = [line.removeprefix("best: ") for line in done.stdout.splitlines() if line.startswith("best: ")]
    pasted = train("train", *shlex.split(line), cwd=tmp_path)
    assert pasted.status == 0, pasted.stderr
    (results,) = (tmp_path / "outputs" / "debug").glob("*/results.json")
    assert json.loads(results.read_text(encoding="utf-8"))["val/loss"] == best.value

    again = train("train", *arguments, "hydra.sweeper.n_trials=9", cwd=tmp_path)
    assert again.status == 0
    assert len(trials(tmp_path)) == 9
    other = train("train", *arguments, "hydra.sweeper.n_trials=9", "model.d_ff=96", cwd=tmp_path)
    assert other.status == 2
    assert "model.d_ff was 64 and is now 96" in other.stderr


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8") if file.exists() else ""
