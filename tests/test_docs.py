"""Every command and every piece of Python in the README and in docs/ runs as written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

# A page shows a real run; here the same command makes one of seconds.
SMALL = ["debug=fast", "data.train_size=500", "data.val_size=20", "data.test_size=20", "data.held_out_size=20"]


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def _commands() -> list[str]:
    lines = [line for page in PAGES for block in _blocks(page, "bash") for line in block.splitlines()]
    return list(dict.fromkeys(line.split(" #")[0].strip() for line in lines if line.startswith("attnframe ")))


def _is_training(command: str) -> bool:
    return command.startswith("attnframe train") and "--help" not in command


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the README's own variant in plugins/."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "my_idea.py").write_text(_blocks(ROOT / "README.md", "python")[0], encoding="utf-8")
    return folder


def _run(command: str, folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "ATTNFRAME_PLUGINS"}
    name, *arguments = command.split()
    assert name == "attnframe"
    code = "from attnframe.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_pages_hold_commands() -> None:
    assert any(map(_is_training, _commands()))
    assert not all(map(_is_training, _commands()))


@pytest.mark.parametrize("command", [command for command in _commands() if not _is_training(command)])
def test_a_command_that_looks_runs_as_written(command: str, folder: Path) -> None:
    assert _run(command, folder).strip()


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in _commands() if _is_training(command)])
def test_a_command_that_trains_runs(command: str, folder: Path) -> None:
    before = set(folder.glob("outputs/**/DONE"))
    _run(" ".join([command, *SMALL]), folder)
    assert set(folder.glob("outputs/**/DONE")) > before


def test_python_in_the_readme_runs(folder: Path) -> None:
    for index, block in enumerate(_blocks(ROOT / "README.md", "python")[1:]):
        script = folder / f"block_{index}.py"
        script.write_text(block, encoding="utf-8")
        subprocess.run([sys.executable, "-W", "error", script.name], cwd=folder, check=True, timeout=60)


def test_links_inside_the_project_lead_somewhere() -> None:
    for page in [*PAGES, *(ROOT / "docs" / "decisions").glob("*.md"), ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_install_lines_are_what_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count("pip install -e '.[test]'") == 1, "CI takes the one line with this from the README"
