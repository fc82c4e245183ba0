"""Ending a run when a score no longer gets better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping

from attnframe.errors import UserError, did_you_mean
from attnframe.training.metric_names import MONITORED


def make_early_stopping(settings: Mapping[str, Any]) -> list[L.Callback]:
    """The callback, or none without a `patience`. Raises `UserError` for a score that there is not."""
    if settings["patience"] is None:
        return []
    monitor = settings["monitor"]
    if monitor not in MONITORED:
        raise UserError(
            f"callbacks.early_stopping.monitor={monitor}: there is no such score; {did_you_mean(monitor, MONITORED)}"
        )
    mode = "min" if monitor.startswith(("val/loss", "val/aer")) else "max"
    return [LastingStop(monitor, patience=settings["patience"], mode=mode, check_on_train_epoch_end=False)]


class LastingStop(EarlyStopping):
    """Lightning's early stopping, which a run that goes on remembers: `trainer.should_stop` is in no checkpoint."""

    has_stopped = False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        stopped_by_others = trainer.should_stop
        super().on_validation_end(trainer, pl_module)
        self.has_stopped |= trainer.should_stop and not stopped_by_others

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self.has_stopped

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "has_stopped": self.has_stopped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.has_stopped = state_dict["has_stopped"]
