"""What a run leaves to look at when it ends: pictures of its last patterns, the report, and both at W&B."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import wandb
from lightning.pytorch.loggers import Logger, WandbLogger

from attnframe.runs.folder import RunFolder
from attnframe.runs.histories import head_log
from attnframe.runs.pattern_pictures import draw_last_patterns
from attnframe.runs.report import write_report

_log = logging.getLogger(__name__)


def leave_report(folder: RunFolder, loggers: Sequence[Logger], *, step: int, best_step: int) -> None:
    """Draw and write what a run that is done leaves to look at; W&B gets it as of `step`, the last one.

    Where that fails the log says why: a run that is trained is not to fail for how it is shown.
    """
    with _attempt("the last patterns could not be drawn"):
        draw_last_patterns(folder)
    report = None
    with _attempt("report.html could not be written"):
        report = write_report(folder, ending="DONE")
    with _attempt("W&B did not get the report"):
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                _log_to_wandb(logger, folder, report, step=step, best_step=best_step)


def leave_report_of_stopped_run(folder: RunFolder) -> None:
    """Write the report of a run that is stopped, with what it has so far."""
    with _attempt("report.html could not be written"):
        write_report(folder, ending="INTERRUPTED")


def _log_to_wandb(logger: WandbLogger, folder: RunFolder, report: Path | None, *, step: int, best_step: int) -> None:
    """The page, and the heads of the best state as a table; layers and heads from 0."""
    media: dict[str, wandb.Html | wandb.Table] = {}
    if report is not None:
        # As it is: what W&B adds by default is a style sheet from the network.
        media["report"] = wandb.Html(str(report), inject=False)
    heads = head_log(folder)
    names = list(dict.fromkeys(name for columns in heads.values() for name in columns))
    if any(best_step in values for columns in heads.values() for values in columns.values()):
        rows = [[*head, *(columns.get(name, {}).get(best_step) for name in names)] for head, columns in heads.items()]
        media["patterns/heads"] = wandb.Table(columns=["site", "layer", "head", *names], data=rows)
    logger.log_metrics(media, step=step)  # type: ignore[arg-type]  # whatever wandb.log takes


@contextlib.contextmanager
def _attempt(failure: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        _log.warning("%s: %s", failure, " ".join(str(error).split()) or type(error).__name__)
