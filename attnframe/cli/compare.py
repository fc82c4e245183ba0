"""`attnframe compare`: finished runs side by side, in groups of equal settings."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from attnframe.cli.browser import open_in_browser
from attnframe.cli.output import print_json, print_table, wants_help, write
from attnframe.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from attnframe.comparison.comparing import Comparison
    from attnframe.patterns.page import PageTable

USAGE = """attnframe compare DIR [DIR ...] [FLAG ...]
        what the variants scored, with intervals over seeds; how far they are apart, and whether that can be chance

  attnframe compare outputs/sweeps/TIME                          every run of a sweep
  attnframe compare outputs/grammar-multi_head outputs/grammar-uniform      every run below two folders
  attnframe compare DIR DIR2 --no-open                           two runs; nothing is opened
  attnframe compare DIR --metric exact_match --set composition   one question, and so the sharpest answer
  attnframe compare DIR --reference uniform --pairs all          against another, or each against each
  attnframe compare DIR --format csv | column -s, -t             only the numbers, unrounded

DIR (or run=DIR) is a run, or any folder with runs below it. Runs with equal settings are the seeds of one group.
--metric M,...   exact_match, bleu, chrf, loss, aer, or another of results.json; differences are drawn in those given,
                 and in exact_match and bleu where none is given: the more are asked for, the less each can show
--set S,...      the test sets: test, composition, ...; all of them where none is given
--reference NAME the group to compare with: its name or its variant; multi_head, else the first, where it is not given
--pairs all      every pair of groups, not only those with the reference
--format F       print the comparison as markdown, csv or latex; --json prints it as JSON
--output FOLDER  where comparison.html, comparison.md, comparison.csv and comparison.tex go; where it is not given, the
                 folder that all DIRs are in
--wandb          log the page and the tables as a W&B run of the job type comparison
--no-open        open no browser
Nothing in a run folder is changed. Runs that are not done are listed with the reason.
"""

_VALUES = {
    "--metric": "M,...",
    "--set": "S,...",
    "--reference": "NAME",
    "--pairs": "all",
    "--format": "FORMAT",
    "--output": "FOLDER",
}
_SWITCHES = ("--json", "--wandb", "--no-open")
_PAIRS = ("reference", "all")
_FORMATS = ("markdown", "csv", "latex")
_NAME = "comparison"


@dataclass
class _Arguments:
    folders: list[Path] = field(default_factory=list)
    values: dict[str, str] = field(default_factory=dict)
    switches: set[str] = field(default_factory=set)

    def names(self, flag: str) -> list[str] | None:
        """The values of a flag that takes several."""
        if flag not in self.values:
            return None
        return [name for item in self.values[flag].split(",") if (name := item.strip())]


def main(arguments: list[str]) -> int:
    """Exit code 0. Raises `UserError`."""
    if wants_help(arguments):
        print(USAGE, end="")
        return 0
    given = _parse(arguments)

    # Here and not above: -h and a mistyped flag need not wait for torch.
    from attnframe.comparison.comparing import compare
    from attnframe.comparison.page import comparison_html
    from attnframe.comparison.page_content import page_content
    from attnframe.comparison.rendering import FORMATS, as_json, csv_text, latex, markdown
    from attnframe.comparison.run_records import read_runs

    comparison = compare(
        read_runs(given.folders),
        measures=given.names("--metric"),
        sets=given.names("--set"),
        reference=given.values.get("--reference"),
        all_pairs=given.values.get("--pairs") == "all",
    )
    folder = _place(given)
    title = f"Comparison of {', '.join(dict.fromkeys(item.resolve().name for item in given.folders[:3]))}"
    texts = {
        "html": comparison_html(page_content(comparison, title)),
        "md": markdown(comparison, title),
        "csv": csv_text(comparison),
        "tex": latex(comparison),
    }
    _write(folder, texts)
    page = folder / f"{_NAME}.html"
    if "--wandb" in given.switches:
        _log_to_wandb(comparison, page, title)
    if "--format" in given.values:
        write(FORMATS[given.values["--format"]](comparison))
    elif "--json" in given.switches:
        print_json(as_json(comparison))
    else:
        _print(comparison, page)
    for sentence in comparison.warnings:
        print(f"warning: {sentence}", file=sys.stderr)
    if "--no-open" not in given.switches and "--format" not in given.values and "--json" not in given.switches:
        open_in_browser(page)
    return 0


def _parse(arguments: Sequence[str]) -> _Arguments:
    given = _Arguments()
    left = list(arguments)
    after: list[str] = []
    if "--" in left:
        left, after = left[: left.index("--")], left[left.index("--") + 1 :]
    while left:
        item = left.pop(0)
        flag, is_joined, value = item.partition("=")
        if flag in _SWITCHES:
            if is_joined:
                raise UserError(f"{item}: {flag} takes no value")
            given.switches.add(flag)
        elif flag in _VALUES:
            value = value if is_joined else left.pop(0) if left else ""
            if not value:
                raise UserError(f"{flag} needs its value: {flag} {_VALUES[flag]}")
            given.values[flag] = value
        elif item.startswith("-"):
            raise UserError(f"{item}: there is no such flag; {did_you_mean(item, [*_VALUES, *_SWITCHES, '-h'])}")
        else:
            given.folders.append(_folder(item))
    given.folders += [Path(item) for item in after]
    if not given.folders:
        raise UserError("which runs? Give their folders, or one above them: attnframe compare outputs/sweeps/<time>")
    for flag, known in (("--pairs", _PAIRS), ("--format", _FORMATS)):
        if flag in given.values and given.values[flag] not in known:
            raise UserError(f"{flag} {given.values[flag]}: {did_you_mean(given.values[flag], known)}")
    if "--format" in given.values and "--json" in given.switches:
        raise UserError("--format and --json: give one of them")
    return given


def _folder(item: str) -> Path:
    """A folder given as DIR or run=DIR; a folder's own name may hold = too."""
    path = Path(item.removeprefix("run=")).expanduser()
    if not item.startswith("run=") and re.match(r"[+~]*[A-Za-z_][\w.@]*=", item) and not path.is_dir():
        raise UserError(f"{item}: compare takes folders and flags, no settings")
    return path


def _place(given: _Arguments) -> Path:
    """Where the files go: the folder that all are in, and never a run's own."""
    if "--output" in given.values:
        chosen = Path(given.values["--output"]).expanduser()
        if (chosen / "manifest.json").exists():
            raise UserError(f"--output {chosen}: this folder holds a run, and none is changed; choose another")
        return chosen
    common = Path(os.path.commonpath([folder.resolve() for folder in given.folders]))
    while (common / "manifest.json").exists():
        common = common.parent
    return common


def _write(folder: Path, texts: dict[str, str]) -> None:
    """All files, each in full or as it was before."""
    # Here, for it imports what -h need not wait for.
    from attnframe.runs.folder import write_whole

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for ending, text in texts.items():
            write_whole(folder / f"{_NAME}.{ending}", text)
    except OSError as error:
        raise UserError(
            f"{folder / _NAME}.html cannot be written: {error.strerror or error}; --output FOLDER names another place"
        ) from error


def _print(comparison: Comparison, page: Path) -> None:
    tables = [*comparison.scores, comparison.difference_table, comparison.cost, comparison.left_out]
    for place, table in enumerate([table for table in tables if table is not None and table.rows]):
        if place:
            write("\n")
        _print_one(table)
    write(f"\npage: {os.path.relpath(page)}\ntables: {os.path.relpath(page.with_suffix('.md'))}, .csv and .tex\n")


def _print_one(table: PageTable) -> None:
    if sys.stdout.isatty():
        write(f"{table.title}\n")
    # As text, for a table of ours has its own decimals.
    print_table(table.columns, [[None if cell is None else str(cell) for cell in row] for row in table.rows])


def _log_to_wandb(comparison: Comparison, page: Path, title: str) -> None:
    # Here, for it imports Lightning.
    from attnframe.training.comparison_log import log_comparison

    settings = comparison.reference.first.settings.get("logger", {}).get("wandb") or {}
    groups = {group.name: [str(run.path) for run in group.runs] for group in comparison.groups}
    tables = [*comparison.scores, comparison.cost, *filter(None, [comparison.difference_table])]
    log_comparison(
        page.parent, page, tables, name=title, project=settings.get("project", "attnframe"), config={"groups": groups}
    )
