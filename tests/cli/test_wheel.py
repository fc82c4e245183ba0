"""What is installed from the wheel is what is in the checkout, and runs away from it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from command_line import CONSOLE_SCRIPT, SMALL, environment, markers, run_folders

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        timeout=120,
    )
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.slow
def test_the_wheel_holds_every_file_of_package_and_conf(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        inside = {name: archive.read(name) for name in archive.namelist()}
    assert not any(name.startswith(("tests/", "plugins/", "conf/", "outputs/")) for name in inside)
    expected = {f"attnframe/conf/{file.relative_to(CHECKOUT / 'conf')}": file for file in _files(CHECKOUT / "conf")}
    expected |= {str(file.relative_to(CHECKOUT)): file for file in _files(CHECKOUT / "attnframe")}
    assert {name for name in inside if ".dist-info/" not in name} == set(expected)
    for name, file in expected.items():
        assert inside[name] == file.read_bytes()
    (entry_points,) = [name for name in inside if name.endswith("entry_points.txt")]
    assert b"attnframe = attnframe.cli:main" in inside[entry_points]


def _files(folder: Path) -> list[Path]:
    return [file for file in folder.rglob("*") if file.is_file() and "__pycache__" not in file.parts]


@pytest.mark.slow
def test_the_wheel_runs_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--quiet", "--target", site, wheel],
        check=True,
        capture_output=True,
        timeout=120,
    )
    env = environment(tmp_path, PYTHONPATH=str(site))

    def run(*code_and_arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", *code_and_arguments],
            cwd=empty,
            env=env,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    find = "import attnframe, attnframe.cli.composition as c; print(attnframe.__file__, c.conf_folder())"
    where = run(find)
    assert where.stdout.split() == [str(site / "attnframe" / "__init__.py"), str(site / "attnframe" / "conf")]
    finished = run(CONSOLE_SCRIPT, "train", *SMALL, "logger=wandb")
    assert (finished.returncode, finished.stderr) == (0, "")
    (folder,) = run_folders(empty)
    assert markers(folder) == ["DONE"]
    assert len((folder / "metrics.csv").read_text().splitlines()) == 7
    assert str(CHECKOUT) not in (folder / "train.log").read_text()
    refused = run(CONSOLE_SCRIPT, "train", "model=tinny")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "did you mean 'tiny'" in refused.stderr
