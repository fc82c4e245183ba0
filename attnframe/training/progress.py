"""One line that says how far the run is, at what rate, and how long it will take."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import lightning as L
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from attnframe.training.task import TranslationTask


def working(what: str, *, shown: bool) -> AbstractContextManager[object]:
    """A line on the terminal while the body runs, for stages without steps; nothing when piped."""
    console = Console(stderr=True)
    return console.status(what) if shown and console.is_terminal else nullcontext()


class ProgressLine(L.Callback):
    """A bar over all steps of the run with steps a second, time left and the latest scores; nothing when piped."""

    def __init__(self) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[scores]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task: Any = None

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        steps = trainer.estimated_stepping_batches
        self._task = self._progress.add_task(
            "training",
            total=None if math.isinf(steps) else int(steps),
            completed=trainer.global_step,
            rate="",
            scores="",
        )
        if self._progress.console.is_terminal:
            self._progress.start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        speed = self._progress.tasks[self._task].speed
        self._progress.update(
            self._task,
            description="training",
            completed=trainer.global_step,
            rate=f"{speed:.1f} steps/s" if speed else "",
        )

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._task is not None:
            self._progress.update(self._task, description="validating")

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TranslationTask)
        if self._task is not None:
            scores = pl_module.val_scores
            self._progress.update(
                self._task, scores=f"val loss {scores['val/loss']:.3f}, exact {scores['val/exact_match']:.3f}"
            )

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        self._stop()

    def _stop(self) -> None:
        # Rich prints an empty line when it stops what it never showed.
        if self._progress.live.is_started:
            self._progress.stop()
