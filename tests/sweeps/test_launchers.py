"""The same sweep through every launcher, with a plugin, and with a worker killed in the middle."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import SMALL, markers, run_folders
from sweep_runs import job_under_way, kill_group, process_of, put_plugin, results, start_sweep, sweep, table, wait_for

pytestmark = pytest.mark.slow

START_SLURM = Path(__file__).parents[3] / "shared" / "slurm" / "start-slurm.sh"
JOBS = (
    *SMALL,
    "attention=my_idea,low_rank_v",
    "seed=1,2",
    "hydra.sweeper.estimate=false",
    "trainer.max_steps=90",
    "trainer.val_check_interval=30",
    "sweep=same",
)
LAUNCHERS = ("joblib", "submitit", "slurm", "ray")


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A Slurm cluster of this one machine: the one that runs, or one for the time of these tests."""
    if shutil.which("sinfo") and subprocess.run(["sinfo", "-h"], capture_output=True, check=False).returncode == 0:
        yield
        return
    if not START_SLURM.exists():
        pytest.skip("there is no Slurm on this machine, and nothing to start one with")
    if os.geteuid() != 0:
        pytest.skip("a Slurm cluster can be started by root only")
    state = tmp_path_factory.mktemp("slurm")
    subprocess.run(["bash", START_SLURM, state], check=True, capture_output=True, timeout=300)
    yield
    subprocess.run(["bash", START_SLURM.with_name("stop-slurm.sh"), state], check=True, capture_output=True, timeout=60)


@pytest.fixture(scope="module")
def one_after_another(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sweep in one process, without a launcher."""
    folder = tmp_path_factory.mktemp("basic")
    put_plugin(folder)
    finished = sweep(folder, *JOBS)
    assert (finished.returncode, finished.stderr) == (0, "")
    return folder / "outputs/sweeps/same"


@pytest.fixture
def launcher(request: pytest.FixtureRequest) -> str:
    """A launcher by name, with what it needs."""
    if request.param == "slurm":
        request.getfixturevalue("slurm")
    return str(request.param)


@pytest.mark.parametrize("launcher", LAUNCHERS, indirect=True)
def test_a_launcher_changes_nothing_and_a_killed_worker_costs_nothing(
    launcher: str, one_after_another: Path, tmp_path: Path
) -> None:
    put_plugin(tmp_path)
    process = start_sweep(tmp_path, *JOBS, f"launcher={launcher}")
    try:
        victim = wait_for(lambda: job_under_way(tmp_path, 40), process)
        worker = process_of(victim)
        assert worker != process.pid
        os.kill(worker, signal.SIGKILL)
        stdout, stderr = process.communicate(timeout=300)
    finally:
        kill_group(process)
    if process.returncode:
        # Killed once more than it is retried by whoever runs it: it is named, and the rest is there.
        assert f"attnframe train: {' '.join(victim.name.split('_')[:-1])}" in stderr.replace("-", "=")
    assert process.returncode == 0, stderr
    assert [markers(run) for run in run_folders(tmp_path)] == [["DONE"]] * 4
    found = results(tmp_path / "outputs/sweeps/same")
    assert found == results(one_after_another)
    assert len(table(stdout)) == 4
