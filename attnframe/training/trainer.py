"""A Lightning trainer from the settings of a run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from attnframe.runs.folder import RunFolder
from attnframe.training.strategy import make_strategy
from attnframe.training.world import ALONE, World


def make_trainer(
    settings: Mapping[str, Any], folder: RunFolder, callbacks: list[Callback], world: World = ALONE
) -> L.Trainer:
    """The trainer that `settings` describe, without loggers. Checkpoints and progress are callbacks of ours."""
    strategy, plugins = make_strategy(settings, world)
    arguments = {key: value for key, value in settings.items() if value is not None}
    if isinstance(settings["val_check_interval"], int):
        # Count validation intervals over epochs, not within one.
        arguments["check_val_every_n_epoch"] = settings["check_val_every_n_epoch"]
    arguments["enable_progress_bar"] = False
    arguments["reload_dataloaders_every_n_epochs"] = 1
    return L.Trainer(
        **{**arguments, "strategy": strategy},
        plugins=plugins,
        use_distributed_sampler=False,
        callbacks=callbacks,
        logger=[],
        default_root_dir=folder.path,
        enable_checkpointing=False,
        enable_model_summary=False,
    )


def restore_callbacks(trainer: L.Trainer, checkpoint: Path) -> None:
    """Give the trainer's callbacks their states in `checkpoint`."""
    states = torch.load(checkpoint, weights_only=True, map_location="cpu")["callbacks"]
    for callback in trainer.callbacks:  # type: ignore[attr-defined]  # set by a connector
        if callback.state_key in states:
            callback.load_state_dict(states[callback.state_key])
