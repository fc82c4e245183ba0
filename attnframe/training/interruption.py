"""Ctrl-C and SIGTERM end a run at a whole step, with its state saved."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import lightning as L


class Interrupted(KeyboardInterrupt):
    """The run was stopped from outside after `step` steps, or, with None, wherever it was.

    No `Exception`: a sweep must not go on to its next job.
    """

    def __init__(self, step: int | None = None) -> None:
        super().__init__("stopped at once" if step is None else f"stopped after step {step}")


class Interruption(L.Callback):
    """Turns the first signal into a stop after the current step, or batch of an evaluation. A second stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self._step = 0
        self._before: dict[signal.Signals, Any] = {}

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        # Our own handlers: a shell starts background jobs with SIGINT ignored, and Lightning would save nothing.
        self._install()

    # Once more at each start: after `setup` Lightning puts in its own, which leave the process with exit code 0.

    def on_train_start(self, *arguments: Any) -> None:
        self._install()

    def on_validation_start(self, *arguments: Any) -> None:
        self._install()

    def on_test_start(self, *arguments: Any) -> None:
        self._install()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._step = trainer.global_step
        if self.requested:
            trainer.should_stop = True
            # Lightning goes on to a least number of steps unless told that this is the end.
            trainer.fit_loop.epoch_loop.max_steps = trainer.global_step

    def on_validation_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        # Validations of the training go on to their end: the stop comes at the next step.
        if self.requested and trainer.state.fn != "fit":
            raise Interrupted(self._step)

    def on_test_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        if self.requested:
            raise Interrupted(self._step)

    def restore(self) -> None:
        """Put the handlers back that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _install(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.signal(number, self._stop)
            self._before.setdefault(number, before)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
