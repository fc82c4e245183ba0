"""Which states of a run are kept."""

from __future__ import annotations

import math
import shutil
from typing import Any

import lightning as L

from attnframe.runs.folder import RunFolder
from attnframe.training.task import TranslationTask


class Checkpoints(L.Callback):
    """`last.ckpt` at each validation and after the last step, `best.ckpt` at the lowest validation loss.

    Unlike Lightning's ModelCheckpoint it also sees the validation after the last step, which is made outside of `fit`.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self.best_loss = math.inf
        self.best_step = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TranslationTask)
        if trainer.sanity_checking:
            return
        loss = pl_module.val_scores["val/loss"]
        best = loss < self.best_loss
        if best:
            self.best_loss, self.best_step = loss, pl_module.global_step
        if trainer.state.fn == "fit":
            trainer.save_checkpoint(self._folder.last_checkpoint)
        if best or not self._folder.best_checkpoint.exists():
            # A loss that is NaN from the start is never best, but a run has a best checkpoint all the same.
            # In two moves: a full disk or a kill in the middle must not cost the best state so far.
            partial = self._folder.best_checkpoint.with_suffix(".partial")
            shutil.copyfile(self._folder.last_checkpoint, partial)
            partial.replace(self._folder.best_checkpoint)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.save_checkpoint(self._folder.last_checkpoint)

    def state_dict(self) -> dict[str, Any]:
        return {"best_loss": self.best_loss, "best_step": self.best_step}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_loss, self.best_step = state_dict["best_loss"], state_dict["best_step"]
