"""Where a run stands, in every checkpoint: its place in the data and its random numbers."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning as L
import numpy as np
import torch

from attnframe.training.data_module import TranslationData
from attnframe.training.world import ALONE, World


class Place(L.Callback):
    """Notes after each whole optimizer step where the run stands, and makes every checkpoint say so.

    A checkpoint may be taken at the start of the next batch, after a validation, or after Lightning has closed an epoch
    that was cut short by the last step. Each of these leaves other counters in Lightning's loops, and some of them lead
    to a repeated validation or a lost batch when training goes on. So the counters of the checkpoint are set to the one
    state from which it goes on right: `batch` batches of `epoch` are done, none is begun, and no validation is due.

    `step` counts optimizer steps; `is_whole` says whether the last batch ended one, with no gradient left over. Each
    process of `world` has random numbers of its own.
    """

    def __init__(self, data: TranslationData, world: World = ALONE) -> None:
        self._data = data
        self._world = world
        self.step = self.epoch = self.batch = 0
        self._batches = 0  # of all epochs together
        self.is_whole = True
        self._stored: dict[str, Any] | None = None

    def on_train_batch_start(self, *arguments: Any) -> None:
        self.restore_random_state()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.is_whole = trainer.global_step > self.step
        if self.is_whole:
            self.step = trainer.global_step
            self.epoch, self.batch = trainer.current_epoch, batch_idx + 1
            self._batches = trainer.fit_loop.total_batch_idx + 1
            if trainer.is_last_batch:
                self.epoch, self.batch = self.epoch + 1, 0

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        if self._batches:
            checkpoint["epoch"] = self.epoch
            loops = checkpoint["loops"]["fit_loop"]
            loops["epoch_progress"] = {key: _counters(self.epoch, begun=1) for key in ("total", "current")}
            loops["epoch_loop.batch_progress"] = {
                "total": _counters(self._batches),
                "current": _counters(self.batch),
                "is_last_batch": False,
            }
            # Lightning counts one more each time a run goes on.
            loops["epoch_loop.state_dict"]["_batches_that_stepped"] = self.step

    def restore_random_state(self) -> None:
        """Go on with the random numbers of the checkpoint, once; as late as may be, for building a model draws some."""
        if self._stored is not None:
            set_random_state(self._stored)
            self._stored = None

    def state_dict(self) -> dict[str, Any]:
        first, *others = self._world.gathered(self._stored or random_state())
        return {
            "step": self.step,
            "epoch": self.epoch,
            "batch": self.batch,
            "batches": self._batches,
            "random": first,
            "random_of_others": others,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.step, self.epoch, self.batch = state_dict["step"], state_dict["epoch"], state_dict["batch"]
        self._batches = state_dict["batches"]
        self._stored = [state_dict["random"], *state_dict.get("random_of_others", [])][self._world.rank]
        self._data.begin_at(self.epoch, self.batch)


def random_state() -> dict[str, Any]:
    """The states of every global random number generator, as plain data that `torch.load(weights_only=True)` takes."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (name, [int(key) for key in keys], *rest),
        "python": random.getstate(),
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Set what `random_state` gave. Generators of GPUs that are not there any more are passed over."""
    torch.set_rng_state(state["torch"])
    for device, cuda_state in zip(range(torch.cuda.device_count()), state["cuda"], strict=False):
        torch.cuda.set_rng_state(cuda_state, device)
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])


@contextmanager
def same_random_numbers() -> Iterator[None]:
    """Leave every generator as it was: Lightning's strategies for several processes seed them whenever they begin."""
    before = random_state()
    yield
    set_random_state(before)


def _counters(done: int, *, begun: int = 0) -> dict[str, int]:
    """Lightning's four counters where `done` are done and `begun` more are begun."""
    return {"ready": done + begun, "started": done + begun, "processed": done, "completed": done}
