"""Sweeps that are killed, edited and started again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import SMALL, markers, run_folders
from sweep_runs import (
    PLUGIN,
    job_under_way,
    kill_group,
    put_plugin,
    results,
    start_sweep,
    sweep,
    table,
    wait_for,
)

VARIANTS = ("self", "multi_head", "low_rank_v", "my_idea")
JOBS = (
    *SMALL,
    f"attention={','.join(VARIANTS)}",
    "seed=1,2,3",
    "hydra.sweeper.estimate=false",
    "trainer.max_steps=60",
    "trainer.val_check_interval=20",
    "sweep=survivor",
)


def done_folders(folder: Path) -> dict[str, int]:
    """When each job that is done was."""
    return {run.name: (run / "DONE").stat().st_mtime_ns for run in run_folders(folder) if markers(run) == ["DONE"]}


@pytest.mark.slow
def test_a_sweep_of_twelve_jobs_survives_being_killed_and_an_edit(tmp_path: Path) -> None:
    whole, survivor = tmp_path / "whole", tmp_path / "survivor"
    for folder in (whole, survivor):
        folder.mkdir()
        put_plugin(folder)
    uninterrupted = sweep(whole, *JOBS)
    assert (uninterrupted.returncode, uninterrupted.stderr) == (0, "")
    expected = results(whole / "outputs/sweeps/survivor")
    assert len(expected) == 12

    process = start_sweep(survivor, *JOBS)
    try:
        wait_for(lambda: len(done_folders(survivor)) >= 5 and job_under_way(survivor, 25), process)
    finally:
        kill_group(process)
    before = done_folders(survivor)
    assert 5 <= len(before) < 12

    again = sweep(survivor, *JOBS)
    assert (again.returncode, again.stderr) == (0, "")
    after = done_folders(survivor)
    assert len(after) == 12
    assert {name: after[name] for name in before} == before, "a job that was done has run again"
    found = results(survivor / "outputs/sweeps/survivor")
    # Folders of the plugin's jobs and of the others are called the same in both: code and data are.
    assert found == expected
    assert table(again.stdout) == table(uninterrupted.stdout)
    plan = [line.split("\t") for line in again.stdout.splitlines() if "\tdone\t" in line or "\tgo on\t" in line]
    assert len([row for row in plan if row[1] == "done"]) == len(before)
    assert [row[1] for row in plan].count("go on") == 1
    (resumed,) = [
        run for run in run_folders(survivor) if json.loads((run / "manifest.json").read_text()).get("resumed")
    ]
    assert json.loads((resumed / "manifest.json").read_text())["resumed"][0]["step"] in (20, 40)

    put_plugin(survivor, PLUGIN.replace("Queries and keys", "Q and K"))
    edited = sweep(survivor, *JOBS)
    assert (edited.returncode, edited.stderr) == (0, "")
    plan = [line.split("\t") for line in edited.stdout.splitlines() if "\tchanged\t" in line]
    assert [row[0] for row in plan] == [f"attention=my_idea seed={seed}" for seed in (1, 2, 3)]
    assert all(row[2] == "plugin my_idea changed since" for row in plan)
    last = done_folders(survivor)
    assert {name: last[name] for name in after} == after
    assert sorted(name.partition("_seed")[0] for name in last.keys() - after.keys()) == ["attention-my_idea"] * 3
    assert table(edited.stdout) == table(uninterrupted.stdout)


@pytest.mark.slow
def test_what_failed_is_tried_again_and_what_it_said_is_kept(tmp_path: Path) -> None:
    failing = PLUGIN.replace(
        "    def forward(self",
        """    def _check(self):
        from pathlib import Path

        if self.training and Path("broken").exists():
            raise RuntimeError("the disk is full")

    def forward(self""",
    ).replace("        q = split", "        self._check()\n        q = split")
    put_plugin(tmp_path, failing)
    (tmp_path / "broken").touch()
    jobs = (*SMALL, "attention=my_idea,self", "sweep=again")
    first = sweep(tmp_path, *jobs)
    assert first.returncode == 1
    (sentence,) = first.stderr.splitlines()
    assert sentence.startswith("attnframe train: attention=my_idea: RuntimeError: the disk is full; see ")
    assert "the disk is full" in (tmp_path / sentence.rpartition(" ")[2]).read_text(encoding="utf-8")
    assert table(first.stdout)["attention=self"]["ended"] == "DONE"
    assert table(first.stdout)["attention=my_idea"]["ended"] == "FAILED"
    done = done_folders(tmp_path)
    (tmp_path / "broken").unlink()
    second = sweep(tmp_path, *jobs)
    assert (second.returncode, second.stderr) == (0, "")
    assert "attention=my_idea\ttry again\tRuntimeError: the disk is full" in second.stdout
    last = done_folders(tmp_path)
    assert len(last) == 2
    assert {name: last[name] for name in done} == done
    (healed,) = [run for run in run_folders(tmp_path) if run.name not in done]
    assert "the disk is full" in (healed / "errors_before.txt").read_text(encoding="utf-8")
    assert not (healed / "error.txt").exists()


@pytest.mark.slow
def test_a_mistake_in_one_plugin_costs_no_other_job(tmp_path: Path) -> None:
    no_parts = PLUGIN.replace('"my_idea"', '"cannot_be_built"').replace("self.num_heads = num_heads", "self.num_hea")
    in_training = PLUGIN.replace('"my_idea"', '"cannot_be_trained"').replace(
        "        q = split", "        assert not self.training, 'no training'\n        q = split"
    )
    for name, text in (("one", no_parts), ("two", in_training)):
        put_plugin(tmp_path, text).rename(tmp_path / "plugins" / f"{name}.py")
    finished = sweep(tmp_path, *SMALL, "attention=cannot_be_built,cannot_be_trained,self", "sweep=mistakes")
    assert finished.returncode == 1
    refused, failed = finished.stderr.splitlines()
    assert refused.startswith(
        "attnframe train: attention=cannot_be_built: encoder_self: cannot_be_built raises AttributeError: "
    )
    assert "one.py, line 14); `attnframe check cannot_be_built`" in refused
    assert failed.startswith("attnframe train: attention=cannot_be_trained: AssertionError: no training; see ")
    assert [row["ended"] for row in table(finished.stdout).values()] == ["refused", "FAILED", "DONE"]
    alone = sweep(tmp_path, *SMALL, "attention=cannot_be_built", "seed=1,2")
    assert alone.returncode == 2
    assert alone.stderr.splitlines() == [refused.replace("attention=cannot_be_built: ", "")]


@pytest.mark.slow
def test_jobs_that_cannot_be_built_are_listed_and_the_others_run(tmp_path: Path) -> None:
    finished = sweep(tmp_path, *SMALL, "attention=multi_head,self", "model.num_heads=2,5")
    assert finished.returncode == 1
    sentences = finished.stderr.splitlines()
    assert len(sentences) == 2
    assert all("model.num_heads=5 does not divide d_model=32" in sentence for sentence in sentences)
    assert len(done_folders(tmp_path)) == 2
    refused = sweep(tmp_path, *SMALL, "attention=multi_head", "model.num_heads=3,5")
    assert refused.returncode == 2
    assert len(refused.stderr.splitlines()) == 1
    assert len(run_folders(tmp_path)) == 2
