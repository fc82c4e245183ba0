"""Every command and every piece of Python in the README and in docs/ runs as written."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from attnframe.data.sources import load_corpus

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TUTORIAL = ROOT / "docs" / "writing_a_plugin.md"

# A page shows a real run; here the same command makes one of seconds.
SECONDS = {
    "grammar": "debug=fast data.train_size=500 data.val_size=20 data.test_size=20 data.held_out_size=20",
    "tatoeba": "debug=fast model=tiny data.val_size=20 data.test_size=20 data.path=pairs.tsv",
    "parallel_file": "debug=fast data.val_size=20 data.test_size=20",
    "resume": "trainer.max_steps=25",
}
FEW_TRIALS = "hydra.sweeper.n_trials=2"


def _blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def _commands(pages: Sequence[Path] = tuple(page for page in PAGES if page != TUTORIAL)) -> list[str]:
    lines = [line for page in pages for block in _blocks(page, "bash") for line in block.splitlines()]
    return list(dict.fromkeys(line.split(" #")[0].strip() for line in lines if line.startswith("attnframe ")))


def _is_training(command: str) -> bool:
    return command.startswith("attnframe train") and "--help" not in command


def _in_seconds(command: str) -> str:
    """A training command made short; what the page says of the file to read stays."""
    kind = next((kind for kind in ("tatoeba", "parallel_file", "resume") if f"={kind}" in command), "grammar")
    kind = "resume" if "resume=" in command else kind
    more = SECONDS[kind]
    if "optuna" in command:
        more += f" {FEW_TRIALS}"
    return f"{command} {more.replace('data.path=pairs.tsv', '') if 'data.path=' in command else more}"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with the README's own variant in plugins/, and the files that the pages speak of."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "plugins").mkdir()
    (folder / "plugins" / "my_idea.py").write_text(_blocks(ROOT / "README.md", "python")[0], encoding="utf-8")
    corpus = load_corpus("grammar", train_size=600, val_size=1, test_size=1, held_out_size=1, max_length=9)
    pairs = corpus.sets["train"]
    lines = "".join(f"{pair.source}\t{pair.target}\n" for pair in pairs)
    for name in ("pairs.tsv", "my_sentences.tsv"):
        (folder / name).write_text(lines, encoding="utf-8")
    with zipfile.ZipFile(folder / "fra-eng.zip", "w") as archive:
        archive.writestr("fra.txt", lines)
    (folder / "train.en").write_text("".join(f"{pair.source}\n" for pair in pairs), encoding="utf-8")
    (folder / "train.fr").write_text("".join(f"{pair.target}\n" for pair in pairs), encoding="utf-8")
    (folder / "english.txt").write_text("".join(f"{pair.source}\n" for pair in pairs[:20]), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    """A finished run, the `DIR` of the pages."""
    _run(_in_seconds("attnframe train name=finished"), folder)
    (done,) = (folder / "outputs" / "finished").glob("*/DONE")
    return done.parent.relative_to(folder)


def _run(command: str, folder: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "ATTNFRAME_PLUGINS"}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    environment["BROWSER"] = "true"  # a command that opens nothing
    environment["XDG_CACHE_HOME"] = str(folder / "cache")
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
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


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [command for command in _commands() if not _is_training(command) and "DIR" not in command]
)
def test_a_command_that_looks_runs_as_written(command: str, folder: Path) -> None:
    assert _run(command, folder).strip()


@pytest.mark.slow
@pytest.mark.parametrize("command", [command for command in _commands() if "DIR" in command])
def test_a_command_that_uses_a_run_runs(command: str, folder: Path, run: Path) -> None:
    before = sorted((folder / run).rglob("*"))
    if _is_training(command):
        # Of a copy, for a run goes on once.
        copy = folder / f"resumed_{len(list(folder.iterdir()))}"
        shutil.copytree(folder / run, copy)
        assert "exact_match" in _run(_in_seconds(command.replace("DIR", copy.name)), folder)
        assert (copy / "DONE").exists()
        return
    printed = _run(command.replace("DIR", str(run)), folder)
    if ">" in command:
        assert len((folder / command.split()[-1]).read_text(encoding="utf-8").splitlines()) == 20
    else:
        assert printed
    if command.startswith("attnframe eval"):
        assert len(sorted((folder / run).rglob("*"))) > len(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [command for command in _commands() if _is_training(command) and "DIR" not in command]
)
def test_a_command_that_trains_runs(command: str, folder: Path) -> None:
    # Pages give a sweep the same name, and what is done is not run twice.
    shutil.rmtree(folder / "outputs" / "sweeps", ignore_errors=True)
    before = set(folder.glob("outputs/**/DONE"))
    _run(_in_seconds(command), folder)
    assert set(folder.glob("outputs/**/DONE")) > before


PYTHON = [
    pytest.param(block, marks=pytest.mark.slow if "load_run" in block else ())
    for page in PAGES
    # The first block of the README is a plugin, tried by the commands.
    for block in _blocks(page, "python")[1 if page.name == "README.md" else 0 :]
]


@pytest.mark.parametrize("block", PYTHON)
def test_python_in_the_pages_runs(block: str, folder: Path, request: pytest.FixtureRequest) -> None:
    if "load_run" in block:
        request.getfixturevalue("run")
    (folder / "block.py").write_text(block, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "ATTNFRAME_PLUGINS"}
    command = [sys.executable, "-W", "error", "block.py"]
    subprocess.run(command, cwd=folder, env=environment, check=True, timeout=60)


@pytest.mark.slow
def test_the_tutorial_runs_from_its_first_line_to_its_last(tmp_path: Path) -> None:
    """One step builds on another: here they run in their order, in an empty folder."""
    (edited,) = _blocks(TUTORIAL, "python")
    new, *commands = _commands([TUTORIAL])
    assert new.startswith("attnframe new ")
    file = tmp_path / "plugins" / f"{new.split()[-1]}.py"
    _run(new, tmp_path)
    assert file.is_file()
    file.write_text(edited, encoding="utf-8")
    printed = {}
    for command in commands:
        short = _in_seconds(command.replace(" debug=fast", "")) if _is_training(command) else command
        printed[command] = _run(short, tmp_path)
        assert printed[command].strip(), command
    assert file.stem in printed["attnframe list attention"]
    (compared,) = (text for command, text in printed.items() if command.startswith("attnframe compare"))
    assert {"multi_head", file.stem} <= set(re.findall(r"\w+", compared))
    assert len(list(tmp_path.glob("outputs/sweeps/*/*/DONE"))) == 6


def test_links_inside_the_project_lead_somewhere() -> None:
    for page in [*PAGES, *(ROOT / "docs" / "decisions").glob("*.md"), ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_install_lines_are_what_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert readme.count("pip install -e '.[test]'") == 1, "CI takes the one line with this from the README"
