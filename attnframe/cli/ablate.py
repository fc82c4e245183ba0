"""`attnframe ablate`: what each head of a finished run is good for."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from attnframe.cli import composition, run_arguments, settings
from attnframe.cli.command_schema import AblateSchema
from attnframe.cli.output import print_table, wants_help
from attnframe.cli.result_folder import written_as_a_whole
from attnframe.cli.scored_data import with_whole_file
from attnframe.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from attnframe.runs.folder import RunFolder
    from attnframe.training.ablation import AblationStudy

USAGE = """attnframe ablate run=DIR [OVERRIDE ...]     what is each head good for? The scores of a run without it

  attnframe ablate run=outputs/grammar-multi_head/2026-01-01          each head, layer and site, on 500 sentences
  attnframe ablate run=DIR set=test sentences=2000                    on more, and on the test set
  attnframe ablate run=DIR set=longer mode=zero                       on another test set; zeroed only
  attnframe ablate run=DIR data=parallel_file data.path=mine.tsv      on a file of yours
  attnframe ablate run=DIR | grep zero                                piped, all rows come, with tabs between

Overrides: set=val|test|<another test set> (val; test with data=), sentences (500; the first of the set),
    mode=zero|uniform|both, checkpoint=best|last, device=auto|cpu|cuda, max_tokens (of a batch), data=... with its
    options. Translations are greedy.
zero: what the heads say is nothing. uniform: they attend to every allowed key alike, so V stays, and Q and K play no
    part. The rows are ranked by what the loss (nats per target token) rises by.
Results: ablation.csv, ablation.json (what was scored) and ablation.png in DIR/ablation/, in the place of those of an
earlier call, and as an overlay in DIR/report.html.
"""

_BOTH = "both"
# Rows of each kind (heads, layers, sites) on a terminal.
_SHOWN = 10


def main(arguments: list[str]) -> int:
    """Exit code 0. Raises `UserError`."""
    if wants_help(arguments):
        print(USAGE, end="")
        return 0
    given = run_arguments.parse(arguments, flags={}, takes_sentences=False)
    composition.prepare()
    config = run_arguments.compose(with_whole_file(given), "ablate", AblateSchema)

    # Here and not above: -h and a mistyped option need not wait for them.
    from attnframe.model.parts import MODES
    from attnframe.runs.loading import load_run
    from attnframe.training.ablation import ablate
    from attnframe.training.ablation_files import write_study

    modes = tuple(MODES) if config["mode"] == _BOTH else (config["mode"],)
    if not set(modes) <= set(MODES):
        raise UserError(f"mode={config['mode']}: {did_you_mean(config['mode'], [*MODES, _BOTH])}")
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    # So that SIGTERM too leaves no half of a study.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    run = load_run(config["run"], checkpoint=config["checkpoint"], device=run_arguments.device(config["device"]))
    place = run.folder.path / "ablation"
    with written_as_a_whole(place) as folder:
        with _progress() as advance:
            study = ablate(
                run,
                data=None if config["data"] is None else settings.with_absolute_paths(config["data"]),
                set_name=config["set"],
                sentences=config["sentences"],
                modes=modes,
                max_tokens=config["max_tokens"],
                advance=advance,
            )
        write_study(study, folder)
    report = _write_report(run.folder)
    _print_study(study)
    print(f"results: {os.path.relpath(place)}", flush=True)
    if report is not None:
        print(f"report: {os.path.relpath(report)}", flush=True)
    return 0


def _write_report(folder: RunFolder) -> Path | None:
    """The page with the study in it; a study is done whatever keeps the page from being written, which is said."""
    from attnframe.runs.report import write_report

    try:
        return write_report(folder)
    except (UserError, OSError, ValueError) as error:
        print(f"attnframe ablate: report.html could not be written: {error}", file=sys.stderr)
        return None


def _print_study(study: AblationStudy) -> None:
    """The untouched model, then the ablations as they are ranked; on a terminal the first few of each kind."""
    at_terminal = sys.stdout.isatty()
    seen: Counter[str] = Counter()
    rows = [["(untouched)", "", "", "", *_cells(study.untouched, {})]]
    for ablation in study.ablations:
        seen[ablation.part.what] += 1
        if not at_terminal or seen[ablation.part.what] <= _SHOWN:
            part = ablation.part
            place = [part.site, _number(part.layer), _number(part.head)]
            rows.append([*place, ablation.mode, *_cells(ablation.scores, ablation.changes)])
    columns = ["site", "layer", "head", "mode"]
    for name in study.untouched:
        # On a terminal short enough for 100 columns.
        columns += [name.partition("_")[0], "change"] if at_terminal else [name, f"{name}_change"]
    print_table(columns, rows)
    if missing := len(study.ablations) + 1 - len(rows):
        print(f"{missing} more rows are in ablation.csv")
    if (head := study.description["aer"]) is not None:
        print(f"aer: always that of cross, layer {head['layer'] + 1}, head {head['head'] + 1}, by its own weights")


def _number(index: int | None) -> str:
    return "all" if index is None else str(index + 1)


def _cells(scores: Mapping[str, float], changes: Mapping[str, float]) -> list[str]:
    """Each score and its change."""
    cells = []
    for name, value in scores.items():
        decimals = 1 if name == "bleu" else 3
        cells.append(f"{value:.{decimals}f}")
        # + 0.0 takes the sign from a zero.
        cells.append(f"{round(changes[name], decimals) + 0.0:+.{decimals}f}" if name in changes else "")
    return cells


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """A bar on the terminal's standard error; the yielded function takes how many of how many are done."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("models scored"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
