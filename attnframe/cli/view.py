"""`attnframe view`: the page to look around in the patterns of a run, or of two."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from attnframe.cli.browser import open_in_browser
from attnframe.cli.output import wants_help, write
from attnframe.cli.page_file import page_file
from attnframe.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from attnframe.runs.report import Report

USAGE = """attnframe view DIR [DIR2] [--no-open] [--output FILE]
        write the report of a run, one HTML file that needs no network, print its path and open it in a browser

  attnframe view outputs/grammar-multi_head/TIME                 see when a head learns to align
  attnframe view run=DIR --no-open                               only write it
  attnframe view DIR DIR2                                        two runs side by side, on the same sentences
  attnframe view DIR --output report.html                        to another place

The file is DIR/report.html, and DIR/report_with_<name of DIR2>.html for two runs. With --output a file that is there is
replaced if it ends in .html or .htm; a device or a pipe is written into. A run that is stopped, failed or
still going on is shown as far as it has come. Without a screen nothing is opened.
"""

_FLAGS = ("--no-open", "--output", "-h")
_MOST_RUNS = 2


def main(arguments: list[str]) -> int:
    """Exit code 0. Raises `UserError`."""
    if wants_help(arguments):
        print(USAGE, end="")
        return 0
    folders, output, opens = _parse(arguments)

    # Here and not above: -h and a mistyped flag need not wait for torch.
    from attnframe.patterns.page import page_html
    from attnframe.runs.folder import RunFolder, write_whole
    from attnframe.runs.report import read_report

    reports = [read_report(RunFolder(folder)) for folder in folders]
    for folder, report in zip(folders, reports, strict=True):
        for problem in report.problems:
            print(f"{folder}: {problem}", file=sys.stderr)
    labels = _labels(folders)
    file = output or folders[0] / _file_name(labels)
    try:
        write_whole(file, page_html([report.run for report in _told_apart(reports, labels)]))
    except OSError as error:
        hint = "" if output else "; --output FILE writes the report to another place"
        raise UserError(f"{file} cannot be written: {error.strerror or error}{hint}") from error
    # A device or a pipe has been given the page, and nothing is there to be opened.
    if file.is_file():
        write(f"{os.path.relpath(file)}\n")
        if opens:
            open_in_browser(file)
    return 0


def _parse(arguments: Sequence[str]) -> tuple[list[Path], Path | None, bool]:
    """The folders, where to write, and whether to open a browser."""
    folders: list[Path] = []
    output: Path | None = None
    left = list(arguments)
    after: list[str] = []
    if "--" in left:
        left, after = left[: left.index("--")], left[left.index("--") + 1 :]
    opens = True
    while left:
        item = left.pop(0)
        flag, is_joined, value = item.partition("=")
        if item == "--no-open":
            opens = False
        elif flag == "--output":
            output = page_file("--output", value if is_joined else left.pop(0) if left else "", "report.html")
        elif item.startswith("-"):
            raise UserError(f"{item}: there is no such flag; {did_you_mean(item, _FLAGS)}")
        else:
            folders.append(_folder(item))
    folders += [Path(item) for item in after]
    if not folders:
        raise UserError("which run? Give its folder: attnframe view outputs/<name>/<time>")
    if len(folders) > _MOST_RUNS:
        raise UserError(f"{len(folders)} runs are too many: the page shows one, or {_MOST_RUNS} side by side")
    if len(folders) == _MOST_RUNS and folders[0].resolve() == folders[1].resolve():
        raise UserError(f"{folders[1]}: both folders are the same run; give two different ones, or one")
    return folders, output, opens


def _folder(item: str) -> Path:
    """A folder given as DIR or run=DIR; a folder's own name may hold = too."""
    path = Path(item.removeprefix("run=")).expanduser()
    if not item.startswith("run=") and re.match(r"[+~]*[A-Za-z_][\w.@]*=", item) and not path.is_dir():
        raise UserError(f"{item}: view takes folders and flags, no settings")
    return path


def _labels(folders: Sequence[Path]) -> list[str]:
    """The names of the folders, with as many of those above them as tell them apart."""
    parts = [folder.resolve().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        labels = [str(Path(*names[-count:])) for names in parts]
        if len(set(labels)) == len(labels):
            break
    return labels


def _file_name(labels: Sequence[str]) -> str:
    return "report.html" if len(labels) == 1 else f"report_with_{'_'.join(Path(labels[1]).parts)}.html"


def _told_apart(reports: Sequence[Report], labels: Sequence[str]) -> Sequence[Report]:
    """The reports, with the folder in the name of two runs that are called the same."""
    if len({report.run.name for report in reports}) == len(reports):
        return reports
    names = [f"{report.run.name}, {label}" for report, label in zip(reports, labels, strict=True)]
    return [replace(report, run=replace(report.run, name=name)) for report, name in zip(reports, names, strict=True)]
