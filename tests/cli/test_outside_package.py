"""A plugin package out of tree: built, installed, and found with its configs by every process."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import CONSOLE_SCRIPT, SMALL, environment, markers, run_folders
from omegaconf import OmegaConf

pytestmark = pytest.mark.slow

PACKAGE = Path(__file__).parents[1] / "outside_package"
SOURCES = ("outside_attention.outside", "outside_attention.widths")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the package is installed."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("outside")
    source = shutil.copytree(PACKAGE, folder / "source")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=source, check=True, capture_output=True, timeout=120)
    (wheel,) = folder.glob("*.whl")
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*install, "--target", folder / "site", wheel], check=True, capture_output=True, timeout=120)
    return folder / "site"


def attnframe(site: Path, folder: Path, *arguments: str) -> str:
    """What `attnframe ARGUMENTS` prints in `folder`, where it has nothing to say to standard error."""
    checkout = str(PACKAGE.parents[1])
    done = subprocess.run(
        [sys.executable, "-c", CONSOLE_SCRIPT, *arguments],
        cwd=folder,
        env=environment(folder, PYTHONPATH=f"{site}:{checkout}"),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_its_variant_preset_and_experiment_are_listed(site: Path, tmp_path: Path) -> None:
    found = {entry["name"]: entry for entry in json.loads(attnframe(site, tmp_path, "list", "attention", "--json"))}
    installed = site / "outside_attention"
    assert found["outside"]["kind"] == "variant"
    assert found["outside"]["file"] == str(installed / "outside.py")
    assert found["outside"]["options"] == [{"name": "rank", "type": "int", "default": 3}]
    assert (found["outside_r1"]["kind"], found["outside_r1"]["file"]) == (
        "preset",
        str(installed / "conf/attention/outside_r1.yaml"),
    )
    experiments = json.loads(attnframe(site, tmp_path, "list", "experiment", "--json"))
    about = {entry["name"]: entry["about"] for entry in experiments}
    assert about["outside_cross"] == "Their variant in cross-attention only."


def test_its_experiment_trains(site: Path, tmp_path: Path) -> None:
    attnframe(site, tmp_path, "train", "experiment=outside_cross", *SMALL)
    (run,) = run_folders(tmp_path)
    assert markers(run) == ["DONE"]
    sites = OmegaConf.load(run / ".hydra" / "config.yaml")
    shared = {"rope": False, "rope_base": 10000.0, "qk_norm": False, "softcap": None}
    assert sites["cross"] == {"name": "outside", "rank": 1, **shared}
    assert sites["attention"]["name"] == "multi_head"


@pytest.mark.parametrize("launcher", [(), ("launcher=joblib",)], ids=["one process", "joblib"])
def test_a_sweep_finds_it_in_every_process_and_knows_its_sources(
    site: Path, tmp_path: Path, launcher: tuple[str, ...]
) -> None:
    if launcher:
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    own = shutil.copytree(site, tmp_path / "site")
    sweep = ("train", "-m", "attention=outside_r1,multi_head", *SMALL, "hydra.sweeper.estimate=false", "sweep=theirs")
    attnframe(own, tmp_path, *sweep, *launcher)
    runs = run_folders(tmp_path)
    assert [markers(run) for run in runs] == [["DONE"], ["DONE"]]
    jobs = {run.name: json.loads((run / "job.json").read_text(encoding="utf-8")) for run in runs}
    (theirs,) = [job for name, job in jobs.items() if "outside" in name]
    (ours,) = [job for name, job in jobs.items() if "multi_head" in name]
    for module in SOURCES:
        text = (own / f"{module.replace('.', '/')}.py").read_bytes()
        assert theirs["sources"][module] == hashlib.sha256(text).hexdigest()
    assert not any(module.startswith("outside") for module in ours["sources"])
    # An edit of what the variant uses of its package makes its job another, and no other one.
    with (own / "outside_attention" / "widths.py").open("a", encoding="utf-8") as file:
        file.write("\n# Still the same.\n")
    plan = [line.split("\t") for line in attnframe(own, tmp_path, *sweep, *launcher).splitlines()]
    assert [row[:3] for row in plan if row[1:2] == ["changed"]] == [
        ["attention=outside_r1", "changed", "outside_attention.widths changed since"]
    ]
    assert [row[0] for row in plan if row[1:2] == ["done"]] == ["attention=multi_head"]
    assert len(run_folders(tmp_path)) == 3
