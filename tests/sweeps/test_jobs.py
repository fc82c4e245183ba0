"""The jobs of a sweep with a launcher that does what a test says: what is handed over, and how each stands then."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from attnframe.errors import UserError
from attnframe.runs.folder import RunFolder
from attnframe.sweeps.grid_sweeper import refuse_choices_for_the_sweep
from attnframe.sweeps.identity import Identity
from attnframe.sweeps.job import Job
from attnframe.sweeps.jobs import SweepJobs
from attnframe.sweeps.search.space_reading import read_space
from attnframe.sweeps.sweep_folder import JOB_FILE, JobRecord, SweepFolder

IDENTITY = Identity(config="c" * 64, data="d" * 64, version="0", sources={})


class Launcher:
    """Calls `act` with the folders of the jobs that are handed over, and remembers how many these were."""

    def __init__(self, act: Callable[[list[Path]], object]) -> None:
        self.act = act
        self.handed_over: list[int] = []

    def launch(self, overrides: Sequence[Sequence[str]], initial_job_idx: int) -> None:
        self.handed_over.append(len(overrides))
        places = [dict(item.split("=", 1) for item in items) for items in overrides]
        self.act([Path(one["hydra.sweep.dir"].strip("'")) / one["hydra.sweep.subdir"].strip("'") for one in places])


def sweep_jobs(sweep: Path, act: Callable[[list[Path]], object]) -> tuple[SweepJobs, Launcher]:
    launcher = Launcher(act)
    whole = OmegaConf.create({"hydra": {"sweep": {"dir": str(sweep)}, "job": {}}, "seed": 1})
    context: Any = SimpleNamespace(config_loader=SimpleNamespace(load_sweep_config=lambda *given: whole))
    return SweepJobs(context, whole, launcher, retries=1), launcher  # type: ignore[arg-type]


def job(sweep: Path, seed: int) -> Job:
    identity = replace(IDENTITY, config=f"{seed}" * 64)
    overrides = (f"seed={seed}",)
    return Job(f"seed={seed}", overrides, {}, None, identity, SweepFolder(sweep).folder_of(identity, f"seed={seed}"))


def finish(folder: Path) -> None:
    RunFolder(folder).write_json("results.json", {"val/loss": 1.5})
    RunFolder(folder).close("DONE")


def begun(sweep: Path, seed: int, marker: str) -> Job:
    """A job that has come to `marker` in an earlier sweep."""
    made = job(sweep, seed)
    assert made.identity is not None
    assert made.folder is not None
    JobRecord(made.identity, made.overrides).write(made.folder)
    RunFolder(made.folder).write_manifest({"settings": {}, "plugins": []})
    RunFolder(made.folder).write_json("results.json", {"val/loss": 1.5})
    RunFolder(made.folder).close(marker)
    return made


@pytest.mark.parametrize("error", [RuntimeError("no such\nkernel"), ZeroDivisionError("by zero"), SystemExit(3)])
def test_whatever_a_variant_raises_refuses_its_own_job_alone(
    error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HydraConfig, "set_config", lambda self, config: None)

    def broken(config: DictConfig) -> Any:
        raise error

    jobs, _ = sweep_jobs(tmp_path, lambda folders: None)
    task: Any = SimpleNamespace(settings=broken)
    found = jobs.prepare(["seed=1"], task, name="seed=1")
    assert found.refused.startswith(
        f"it cannot be built: {type(error).__name__}: {' '.join(str(error).split())} ({__file__}, line "
    )
    assert jobs.planned(found).action == "refused"


def test_a_launcher_that_cannot_start_says_so_of_jobs_that_were_stopped_before(tmp_path: Path) -> None:
    stopped, failed, done = begun(tmp_path, 1, "INTERRUPTED"), begun(tmp_path, 2, "FAILED"), begun(tmp_path, 3, "DONE")

    def refuse(folders: list[Path]) -> None:
        raise OSError("sbatch: no such partition")

    jobs, launcher = sweep_jobs(tmp_path, refuse)
    ended = jobs.run([jobs.planned(one) for one in (stopped, failed, done)])
    assert launcher.handed_over == [2, 2]
    assert [end.marker for end in ended] == ["INTERRUPTED", "FAILED", "DONE"]
    assert all(end.reason.endswith(": sbatch: no such partition") for end in ended[:2])
    assert ended[0].reason.startswith("it was stopped")
    assert ended[2].results == {"val/loss": 1.5}


def test_a_launcher_that_dies_in_the_middle_hides_nothing_that_is_done(tmp_path: Path) -> None:
    def first_only(folders: list[Path]) -> None:
        if folders[0].name.startswith("seed-1"):
            finish(folders[0])
        raise OSError("no space left")

    jobs, launcher = sweep_jobs(tmp_path, first_only)
    ended = jobs.run([jobs.planned(job(tmp_path, seed)) for seed in (1, 2, 3)])
    assert launcher.handed_over == [3, 2]
    assert ended[0].results == {"val/loss": 1.5}
    assert [end.reason for end in ended[1:]] == ["it never began: no space left"] * 2
    jobs, launcher = sweep_jobs(tmp_path, first_only)
    with pytest.raises(UserError, match="no job could be started: no space left"):
        jobs.run([jobs.planned(job(tmp_path, seed)) for seed in (2, 3)])
    assert launcher.handed_over == [2]


def test_a_job_that_is_stopped_or_fails_again_is_not_handed_over_again(tmp_path: Path) -> None:
    before = begun(tmp_path, 1, "INTERRUPTED"), begun(tmp_path, 2, "FAILED")

    def stop(folders: list[Path]) -> None:
        for folder, marker in zip(folders, ("INTERRUPTED", "FAILED"), strict=True):
            RunFolder(folder).reopen()
            RunFolder(folder).close(marker)

    jobs, launcher = sweep_jobs(tmp_path, stop)
    ended = jobs.run([jobs.planned(one) for one in before])
    assert launcher.handed_over == [2]
    assert [end.marker for end in ended] == ["INTERRUPTED", "FAILED"]


def test_damaged_results_of_one_job_hide_no_other(tmp_path: Path) -> None:
    damaged, new = begun(tmp_path, 1, "DONE"), job(tmp_path, 2)
    assert damaged.folder is not None
    (damaged.folder / "results.json").write_text("{half", encoding="utf-8")
    jobs, launcher = sweep_jobs(tmp_path, lambda folders: [finish(folder) for folder in folders])
    ended = jobs.run([jobs.planned(one) for one in (damaged, new)])
    assert launcher.handed_over == [1]
    assert [end.results for end in ended] == [None, {"val/loss": 1.5}]
    assert "results.json cannot be read" in ended[0].reason
    assert len(SweepFolder(tmp_path).results()) == 1


def test_results_that_cannot_be_put_on_record_are_shown_all_the_same(tmp_path: Path) -> None:
    done = begun(tmp_path, 1, "DONE"), begun(tmp_path, 2, "DONE")
    SweepFolder(tmp_path).results_file.mkdir()
    jobs, _ = sweep_jobs(tmp_path, lambda folders: None)
    ended = jobs.run([jobs.planned(one) for one in done])
    assert [end.results for end in ended] == [{"val/loss": 1.5}] * 2
    assert ["results.jsonl cannot be written: Is a directory" in end.reason for end in ended] == [True, False]


def test_a_job_that_is_done_is_known_again_with_a_damaged_record(tmp_path: Path) -> None:
    done = begun(tmp_path, 1, "DONE")
    assert done.identity is not None
    assert done.folder is not None
    (done.folder / JOB_FILE).write_text("{half", encoding="utf-8")
    assert SweepFolder(tmp_path).folder_of(done.identity, "another name") == done.folder
    jobs, launcher = sweep_jobs(tmp_path, lambda folders: None)
    ended = jobs.run([jobs.planned(done)])
    assert launcher.handed_over == []
    assert ended[0].results == {"val/loss": 1.5}
    assert SweepFolder(tmp_path).results().keys() == {done.identity.key}


@pytest.mark.parametrize("item", ["sweep=a,b", "launcher=joblib,ray", "hydra.sweep.dir=x,y", "hydra/launcher=basic,x"])
def test_what_all_jobs_share_has_one_value(item: str) -> None:
    with pytest.raises(UserError, match="all jobs of a sweep share"):
        refuse_choices_for_the_sweep(OverridesParser.create().parse_overrides(["seed=1,2", item]))
    with pytest.raises(UserError, match="all jobs of a sweep share"):
        read_space(["seed=1,2", item])
    refuse_choices_for_the_sweep(OverridesParser.create().parse_overrides(["seed=1,2", "sweep='a,b'"]))
