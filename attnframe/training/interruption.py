"""Ctrl-C and SIGTERM end a run at a whole step, with its state saved."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import lightning as L

from attnframe.training.checkpoints import Checkpoints
from attnframe.training.place import Place
from attnframe.training.world import ALONE, World


class Interrupted(KeyboardInterrupt):
    """The run was stopped from outside after `step` steps, or, with None, wherever it was.

    No `Exception`: a sweep must not go on to its next job.
    """

    def __init__(self, step: int | None = None) -> None:
        super().__init__("stopped at once" if step is None else f"stopped after step {step}")
        self._step = step

    def __reduce__(self) -> tuple[type[Interrupted], tuple[int | None]]:
        return type(self), (self._step,)


def cause_of(error: BaseException) -> BaseException | None:
    """What ended a run: Lightning answers a KeyboardInterrupt inside of its loops with a SystemExit of its own."""
    return error.__context__ if isinstance(error, SystemExit) else error


class Interruption(L.Callback):
    """Turns the first signal into a stop after the current step or batch of a final evaluation; a second stops at once.

    The stop comes at the start of the next batch: by then a validation that belongs to the step has been made, and none
    is made that would not have been without the stop. The first process of `world` is told to stop, and tells the
    others, who do not listen themselves.
    """

    def __init__(self, place: Place, checkpoints: Checkpoints, world: World = ALONE) -> None:
        self.requested = False
        self._place = place
        self._checkpoints = checkpoints
        self._world = world
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

    def on_train_batch_start(self, trainer: L.Trainer, *arguments: Any) -> None:
        self._world.look_around()
        if self._place.is_whole and self._world.first_says(self.requested):
            if self._place.step:
                self._checkpoints.save(trainer)
            raise Interrupted(self._place.step)

    def on_validation_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        self._world.look_around()
        if self.requested and trainer.state.fn != "fit":
            raise Interrupted(self._place.step)

    def on_test_batch_end(self, trainer: L.Trainer, *arguments: Any) -> None:
        if self.requested:
            raise Interrupted(self._place.step)

    def restore(self) -> None:
        """Put the handlers back that were there before."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()

    def _install(self) -> None:
        if not self._world.is_first:
            return
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.signal(number, self._stop)
            self._before.setdefault(number, before)

    def _stop(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
