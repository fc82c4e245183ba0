"""Ending a run that is hopeless, on advice from outside: a search that has seen better ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import lightning as L

from attnframe.training.checkpoints import Checkpoints
from attnframe.training.place import Place
from attnframe.training.task import TranslationTask
from attnframe.training.world import ALONE, World

Advice = Callable[[int, Mapping[str, float]], str | None]
"""Takes the step and the scores of a validation; the reason to end the run, or None to go on."""


@dataclass(frozen=True)
class SearchTrial:
    """A run's part in a search: what its manifest says of it, and who advises on whether it goes on."""

    description: Mapping[str, Any]
    advice: Advice

    @classmethod
    def of_another(cls) -> SearchTrial:
        """What a process after the first has of a trial: it follows, and is asked for nothing."""
        return cls({}, lambda step, scores: None)


class Pruned(Exception):  # noqa: N818  reads as what happened
    """The run was ended on advice; the message is the reason. An `Exception`: a sweep goes on to its next job."""


class Pruning(L.Callback):
    """After each validation of the training asks `advice`, and ends the run at a whole step where that says so.

    The step has been saved by then, as with every stop, so that the run could go on. After the last step there is
    nothing left to end. The first process of `world` asks, and all of them end at the same step.
    """

    def __init__(self, advice: Advice, place: Place, checkpoints: Checkpoints, world: World = ALONE) -> None:
        self._advice = advice
        self._place = place
        self._checkpoints = checkpoints
        self._world = world
        self._reason: str | None = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TranslationTask)
        if self._world.is_first and not trainer.sanity_checking:
            self._reason = self._advice(trainer.global_step, pl_module.val_scores)

    def on_train_batch_start(self, trainer: L.Trainer, *arguments: Any) -> None:
        if self._place.is_whole and self._world.first_says(self._reason is not None):
            self._checkpoints.save(trainer)
            raise Pruned(self._reason or "ended by the first process")
