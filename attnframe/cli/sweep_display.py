"""What a sweep prints: its plan, how far it is, and how every job stands in the end."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from rich.console import Console

from attnframe.cli.output import print_table, write
from attnframe.cli.standard_output import OutputError
from attnframe.sweeps.estimating import Estimate
from attnframe.sweeps.job import Ended, Job, Planned
from attnframe.sweeps.progress import Progress, progress_of
from attnframe.sweeps.sweep_folder import SweepFolder

_PLACES = {
    "basic": "one after another in this process",
    "joblib": "in parallel processes on this machine (joblib)",
    "submitit_local": "in parallel processes on this machine (submitit)",
    "submitit_slurm": "as jobs of Slurm",
    "ray": "as tasks of Ray",
}
LAUNCHERS_HERE = ("basic", "joblib", "submitit_local")
_MEASURES = ("val/loss", "test/exact_match", "test/bleu", "test/chrf", "test/aer", "parameters", "train/seconds")
_MOST_ROWS = 40
_SECONDS_BETWEEN_LOOKS = 1.0


def print_plan(folder: SweepFolder, plan: Sequence[Planned], config: DictConfig) -> None:
    """The jobs, what will be done about each, and where."""
    counts = Counter(planned.action for planned in plan)
    told = ", ".join(f"{count} {action}" for action, count in counts.items())
    write(f"sweep folder: {os.path.relpath(folder.path)}\n{len(plan)} jobs: {told}\n")
    if any(planned.is_to_run for planned in plan):
        write(f"they run {place_of(config)}\n")
    shown = [planned for planned in plan if planned.reason] if len(plan) > _MOST_ROWS and _at_a_terminal() else plan
    if shown:
        print_table(
            ["job", "plan", "because", "folder"],
            [[planned.job.name, planned.action, planned.reason, _name(planned.job)] for planned in shown],
        )


def print_estimate(find: Callable[[], Estimate]) -> None:
    """How much work it is, which `find` takes some seconds to find out."""
    console = Console(stderr=True)
    with console.status("timing a step of each kind of job") if console.is_terminal else contextlib.nullcontext():
        found = find()
    if found.seconds is not None:
        tried = "" if found.timed == found.kinds else f" (timed {found.timed} of {found.kinds} kinds of jobs)"
        duration = _duration(found.seconds)
        write(
            f"about {duration} of training and testing at this machine's speed{tried}, and some seconds a job beside\n"
        )


def place_of(config: DictConfig) -> str:
    """Where the jobs of a sweep run, in words."""
    launcher = str(config.hydra.runtime.choices["hydra/launcher"])
    return _PLACES.get(launcher, f"by hydra/launcher={launcher}")


def watching(jobs: Sequence[Job], *, lines: bool = True) -> AbstractContextManager[object]:
    """A table of the jobs while the body runs; in a pipe, with `lines`, one for each that has ended."""
    there = [job for job in jobs if job.folder is not None]
    if sys.stderr.isatty():
        return _live_table(there)
    return _lines(there) if lines else contextlib.nullcontext()


def print_ended(folder: SweepFolder, ended: Sequence[Ended]) -> None:
    """A row for each job with its scores; on standard error what went wrong and where more is said."""
    measures = [name for name in _MEASURES if any(name in (outcome.results or {}) for outcome in ended)]
    if measures:
        print_table(
            ["job", "ended", *measures],
            [
                [
                    outcome.job.name,
                    outcome.marker or ("refused" if outcome.job.refused else "no end"),
                    *(_number((outcome.results or {}).get(name)) for name in measures),
                ]
                for outcome in ended
            ],
        )
        write(f"results: {os.path.relpath(folder.results_file)}\n")
    for outcome in ended:
        if outcome.reason:
            print(f"attnframe train: {outcome.job.name}: {outcome.reason}{_where_to_read(outcome)}", file=sys.stderr)


def _where_to_read(outcome: Ended) -> str:
    """Where more stands about a job that is not done."""
    folder = outcome.job.folder
    if folder is not None and outcome.marker == "FAILED" and (folder / "error.txt").exists():
        return f"; see {os.path.relpath(folder / 'error.txt')}"
    if folder is not None and (folder / "train.log").exists():
        return f"; its log is {os.path.relpath(folder / 'train.log')}"
    return ""


@contextlib.contextmanager
def _lines(jobs: Sequence[Job]) -> Iterator[None]:
    """Say of each job once that it has ended."""
    told = {job.folder for job in jobs if job.folder and progress_of(job.folder).state == "done"}

    def tell() -> None:
        for job in jobs:
            assert job.folder is not None
            progress = progress_of(job.folder)
            if progress.state == "done" and job.folder not in told:
                told.add(job.folder)
                write(f"done: {job.name}\n")

    with _every(_SECONDS_BETWEEN_LOOKS, tell):
        yield


@contextlib.contextmanager
def _live_table(jobs: Sequence[Job]) -> Iterator[None]:
    """Redraw the table of all jobs on the terminal's standard error."""
    from rich.live import Live

    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        begun = time.monotonic()
        with _every(_SECONDS_BETWEEN_LOOKS, lambda: live.update(_table(jobs, time.monotonic() - begun), refresh=True)):
            yield


def _table(jobs: Sequence[Job], seconds: float) -> Any:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False)
    for heading in ("job", "", "step", "val loss", "seconds"):
        table.add_column(heading, justify="left" if heading in ("job", "") else "right")
    found = [(job, progress_of(job.folder)) for job in jobs if job.folder is not None]
    counts = Counter(progress.state for _, progress in found)
    # What is under way comes first where there is no room for all.
    order = {"running": 0, "failed": 1, "stopped": 2, "waiting": 3, "done": 4}
    shown = sorted(found, key=lambda one: order[one[1].state])[:_MOST_ROWS] if len(found) > _MOST_ROWS else found
    for job, progress in shown:
        table.add_row(Text(job.name), progress.state, *_how_far(job, progress))
    told = ", ".join(f"{count} {state}" for state, count in counts.items())
    table.caption = f"{told}; {seconds / 60:.0f} min so far"
    table.caption_justify = "left"
    return table


def _how_far(job: Job, progress: Progress) -> tuple[str, str, str]:
    if progress.state == "waiting":
        return "", "", ""
    limit = job.settings["trainer"]["max_steps"]
    step = f"{progress.step}" if limit in (None, -1) else f"{progress.step}/{limit}"
    return step, "" if progress.val_loss is None else f"{progress.val_loss:.3f}", f"{progress.seconds:.0f}"


@contextlib.contextmanager
def _every(seconds: float, act: Any) -> Iterator[None]:
    """Call `act` at intervals in a thread of its own while the body runs, and once more after it."""
    ended = threading.Event()

    def repeat() -> None:
        # Whoever read along has gone away; the jobs go on, and the body will see for itself.
        with contextlib.suppress(OSError, OutputError):
            while not ended.wait(seconds):
                act()

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        act()


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _name(job: Job) -> str:
    return "" if job.folder is None else Path(job.folder).name


def _number(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) and abs(value) < 10 else value


def _at_a_terminal() -> bool:
    return sys.stdout.isatty()
