"""`attnframe view`: writes the page of one run or two, opens it where it can, and refuses in one sentence."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import webbrowser
from pathlib import Path

import pytest
from command_line import environment
from tiny_run import tiny_run

from attnframe import UserError
from attnframe.cli import view
from attnframe.patterns.page import page_html
from attnframe.runs.folder import RunFolder
from attnframe.runs.report import read_report


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("view") / "one"
    tiny_run(path, "trainer.max_steps=2", "callbacks.patterns.sentences=1")
    return path


@pytest.fixture
def runs(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the runs `one` and `other=1`, which have no report yet."""
    for name in ("one", "other=1"):
        shutil.copytree(finished, tmp_path / name)
        (tmp_path / name / "report.html").unlink()
    monkeypatch.chdir(tmp_path)
    return tmp_path


class Browser(webbrowser.BackgroundBrowser):
    """One that only notes what it is to open."""

    def __init__(self) -> None:
        self.opened: list[str] = []

    def open(self, url: str, new: int = 0, autoraise: bool = True) -> bool:
        self.opened.append(url)
        return True


class TextBrowser(webbrowser.GenericBrowser):
    def __init__(self) -> None:
        self.opened: list[str] = []

    open = Browser.open  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def browser(monkeypatch: pytest.MonkeyPatch) -> Browser:
    found = Browser()
    monkeypatch.delenv("BROWSER", raising=False)
    monkeypatch.setattr(webbrowser, "get", lambda: found)
    return found


def test_it_writes_the_page_says_where_and_opens_it(
    runs: Path, browser: Browser, capsys: pytest.CaptureFixture[str]
) -> None:
    assert view.main(["one"]) == 0
    assert capsys.readouterr() == ("one/report.html\n", "")
    assert browser.opened == [(runs / "one" / "report.html").as_uri()]
    written = (runs / "one" / "report.html").read_text(encoding="utf-8")
    assert written == page_html([read_report(RunFolder(runs / "one")).run])


@pytest.mark.parametrize("arguments", [["run=one", "--no-open"], ["--no-open", "--", "one"], ["one/", "--no-open"]])
def test_it_only_writes(arguments: list[str], runs: Path, browser: Browser, capsys: pytest.CaptureFixture[str]) -> None:
    assert view.main(arguments) == 0
    assert capsys.readouterr() == ("one/report.html\n", "")
    assert (runs / "one" / "report.html").exists()
    assert browser.opened == []


@pytest.mark.parametrize("second", ["other=1", "run=other=1"])
def test_two_runs_side_by_side(
    second: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[list[str]] = []

    def spied(pages: list[object]) -> str:
        shown.append([page.name for page in pages])  # type: ignore[attr-defined]
        return page_html(pages)  # type: ignore[arg-type]

    monkeypatch.setattr("attnframe.patterns.page.page_html", spied)
    assert view.main(["one", second, "--no-open"]) == 0
    assert capsys.readouterr().out == "one/report_with_other=1.html\n"
    assert (runs / "one" / "report_with_other=1.html").exists()
    assert not (runs / "one" / "report.html").exists()
    assert not list((runs / "other=1").glob("*.html"))
    # Both runs are called `debug`.
    assert shown == [["debug, one", "debug, other=1"]]


@pytest.mark.parametrize("flag", [["--output", "pages/mine.html"], ["--output=pages/mine.html"]])
def test_another_place(flag: list[str], runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "pages").mkdir()
    assert view.main(["one", "--no-open", *flag]) == 0
    assert capsys.readouterr().out == "pages/mine.html\n"
    assert (runs / "pages" / "mine.html").exists()
    assert not (runs / "one" / "report.html").exists()


def test_without_a_browser_the_path_has_to_do(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none() -> None:
        raise webbrowser.Error("could not locate runnable browser")

    monkeypatch.setattr(webbrowser, "get", none)
    assert view.main(["one"]) == 0
    assert capsys.readouterr() == ("one/report.html\n", "")


def test_a_text_browser_does_not_take_over_the_terminal(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = TextBrowser()
    monkeypatch.setattr(webbrowser, "get", lambda: text)
    view.main(["one"])
    assert text.opened == []
    monkeypatch.setenv("BROWSER", "lynx")  # whoever says so gets it
    view.main(["one"])
    assert len(text.opened) == 1


def test_what_could_not_be_shown_is_said(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "one" / "results.json").write_text("{", encoding="utf-8")
    assert view.main(["one", "--no-open"]) == 0
    assert capsys.readouterr() == ("one/report.html\n", "one: results.json is damaged\n")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], r"which run\? Give its folder"),
        (["--no-open"], r"which run\? Give its folder"),
        (["onr"], r"^onr: there is no such folder: did you mean 'one'\?"),
        (["."], r"^\.: this folder holds no run \(no manifest\.json\); it holds runs, the latest is"),
        (["one", "onr"], "^onr: there is no such folder"),
        (["one", "other=1", "one"], "3 runs are too many: the page shows one, or 2 side by side"),
        (["one", "run=one/"], "one: both folders are the same run"),
        (["one", "--noopen"], "--noopen: there is no such flag; did you mean '--no-open'"),
        (["one", "--output"], "--output needs its FILE"),
        (["one", "checkpoint=last"], "checkpoint=last: view takes folders and flags, no settings"),
        (["one", "--output", "nowhere/page.html"], r"nowhere/page\.html cannot be written: No such file or directory$"),
        (
            ["one", "--output", "other=1"],
            "--output other=1: this is a folder; name a file, such as other=1/report.html$",
        ),
        (["one", "--output", "."], r"--output \.: this is a folder; name a file, such as report\.html$"),
        (["one", "--output", ""], "--output needs its FILE: --output FILE$"),
        (["one", "--output="], "--output needs its FILE: --output FILE$"),
        (
            ["one", "--output", "one/results.json"],
            "--output one/results.json: one/results.json is there already and ends",
        ),
        (["one", "--output", "x" * 300], "cannot be written: File name too long$"),
    ],
)
def test_what_is_refused(arguments: list[str], sentence: str, runs: Path, browser: Browser) -> None:
    before = sorted(runs.rglob("*"))
    with pytest.raises(UserError, match=sentence):
        view.main(arguments)
    assert browser.opened == []
    assert sorted(runs.rglob("*")) == before


def test_a_folder_that_cannot_be_written_names_the_way_out(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "write_text", refuse)
    with pytest.raises(UserError, match=r"report\.html cannot be written: Permission denied; --output FILE writes"):
        view.main(["one"])


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert view.main(["-h"]) == 0
    assert "attnframe view DIR DIR2" in capsys.readouterr().out


def test_it_is_a_command_that_loads_neither_lightning_nor_wandb_nor_hydra(finished: Path, tmp_path: Path) -> None:
    script = (
        "import sys; sys.argv = ['attnframe', 'view', sys.argv[1], '--no-open', '--output', 'page.html']\n"
        "from attnframe.cli import main\n"
        "try: main()\n"
        "finally: print(*sorted({'lightning', 'wandb', 'hydra', 'omegaconf'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(finished)],
        cwd=tmp_path,
        env={**environment(tmp_path), "DISPLAY": ""},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["page.html", ""]
    assert done.stderr == ""
    assert [file.name for file in tmp_path.iterdir()] == ["page.html"]


def test_a_device_and_a_pipe_are_written_into(runs: Path, browser: Browser, capsys: pytest.CaptureFixture[str]) -> None:
    assert view.main(["one", "--output", os.devnull]) == 0
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    assert (capsys.readouterr().out, browser.opened) == ("", [])
    os.mkfifo(runs / "pipe")
    with subprocess.Popen(["cat", "pipe"], cwd=runs, stdout=subprocess.PIPE) as reader:
        assert view.main(["one", "--output", "pipe"]) == 0
        assert reader.stdout is not None
        assert reader.stdout.read().decode("ascii") == page_html([read_report(RunFolder(runs / "one")).run])
    assert stat.S_ISFIFO((runs / "pipe").stat().st_mode)


def test_a_link_stays_and_what_it_points_to_is_written(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "pages").mkdir()
    (runs / "pages" / "real.HTM").write_text("old", encoding="utf-8")
    (runs / "latest").symlink_to("pages/real.HTM")
    assert view.main(["one", "--no-open", "--output", "latest"]) == 0
    assert (runs / "latest").is_symlink()
    assert (runs / "pages" / "real.HTM").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert capsys.readouterr().out == "latest\n"
    assert [file.name for file in (runs / "pages").iterdir()] == ["real.HTM"]
    (runs / "notes.txt").write_text("mine", encoding="utf-8")
    (runs / "page.html").symlink_to("notes.txt")
    with pytest.raises(UserError, match=r"--output page\.html: notes\.txt is there already"):
        view.main(["one", "--no-open", "--output", "page.html"])
    assert (runs / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_folders_of_the_same_name_are_told_apart_by_those_above(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown: list[str] = []

    def spied(pages: list[object]) -> str:
        shown.extend(page.name for page in pages)  # type: ignore[attr-defined]
        return ""

    monkeypatch.setattr("attnframe.patterns.page.page_html", spied)
    for sweep in ("first/time", "second/time"):
        (runs / sweep).mkdir(parents=True)
        shutil.copytree(runs / "one", runs / sweep / "0_same")
    assert view.main(["first/time/0_same", "second/time/0_same", "--no-open"]) == 0
    assert shown == ["debug, first/time/0_same", "debug, second/time/0_same"]
    assert capsys.readouterr().out == "first/time/0_same/report_with_second_time_0_same.html\n"
