"""Which states of a run are kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import lightning as L
import torch

from attnframe.runs.folder import RunFolder
from attnframe.training.place import Place
from attnframe.training.task import TranslationTask
from attnframe.training.world import ALONE, World


class Checkpoints(L.Callback):
    """`last.ckpt` after each validation, at a stop and after the last step; `best.ckpt` at the lowest validation loss.

    Both tell the same history whenever the run is killed: a new best state is written beside `best.ckpt` and takes its
    place once `last.ckpt` knows of it. `last.ckpt` is written between two whole steps and when every callback has seen
    the validation, so this must be the last callback. `untimed` is entered while writing.

    Every process of `world` has to take part, for each may hold a piece of the state; the first one writes.
    """

    def __init__(
        self,
        folder: RunFolder,
        place: Place,
        untimed: Callable[[], AbstractContextManager[None]],
        world: World = ALONE,
    ) -> None:
        self._last, self._best = folder.last_checkpoint, folder.best_checkpoint
        self._next_best = folder.next_best_checkpoint
        self._place = place
        self._untimed = untimed
        self._world = world
        self._due = False
        self.best_loss = math.inf
        self.best_step = -1

    def save(self, trainer: L.Trainer) -> None:
        """Write `last.ckpt`, and make `best.ckpt` the best state that it knows of."""
        with self._untimed():
            _write(trainer, self._last)
            if self._world.is_first and self._next_best.exists():
                self._next_best.replace(self._best)
        self._due = False

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._world.is_first and self._next_best.exists():
            # Left by a kill: either `last.ckpt` knows of it already, or the run goes on from before it.
            if torch.load(self._next_best, weights_only=True, map_location="cpu")["global_step"] == self.best_step:
                self._next_best.replace(self._best)
            else:
                self._next_best.unlink()

    def on_train_batch_start(self, trainer: L.Trainer, *arguments: Any) -> None:
        if self._due and self._place.is_whole:
            self.save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TranslationTask)
        if trainer.sanity_checking:
            return
        loss = pl_module.val_scores["val/loss"]
        # A loss that is NaN from the start is never best, but a run has a best checkpoint all the same.
        if loss < self.best_loss or self.best_step < 0:
            self.best_loss, self.best_step = min(self.best_loss, loss), pl_module.global_step
            with self._untimed():
                _write(trainer, self._next_best)
        self._due = True

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.save(trainer)

    def state_dict(self) -> dict[str, Any]:
        return {"best_loss": self.best_loss, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_loss, self.best_step = state_dict["best_loss"], state_dict["best_step"]


def _write(trainer: L.Trainer, file: Path) -> None:
    """In two moves: a full disk or a kill in the middle must not cost the state that was there before."""
    partial = file.with_suffix(".partial")
    trainer.save_checkpoint(partial)
    if trainer.is_global_zero:
        partial.replace(file)
