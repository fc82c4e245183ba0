"""Patterns of a few sentences at each validation: arrays in the run folder, pictures of the first to W&B."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

import lightning as L
from lightning.pytorch.loggers import WandbLogger

from attnframe.data.schema import SentencePair
from attnframe.runs.folder import RunFolder
from attnframe.runs.pattern_pictures import draw_snapshot
from attnframe.runs.sentence_patterns import patterns_of_pairs
from attnframe.runs.snapshots import Snapshot, snapshot_file, write_snapshot
from attnframe.training.task import TranslationTask


class PatternSnapshots(L.Callback):
    """Records every site, layer and head on a varied few (`sentences`) of the validation pairs, whatever the backend.

    `patterns/step_000100/sentence_0.npz` holds weights and contributions, as `runs.snapshots` says. Rows and columns
    are words whatever the tokenizer, merged as `word_patterns` says. `max_snapshots` validations are kept at most,
    evenly over the run so far from the first on: when there are more, every second one is deleted, and from then on
    they are twice as far apart. The last state of the run is recorded besides. W&B gets the pictures of the first
    sentence, one for each site: drawing takes longer than everything else here.
    """

    def __init__(self, folder: RunFolder, *, sentences: int, max_snapshots: int) -> None:
        self._folder = folder
        self._sentences = sentences
        self._max_snapshots = max_snapshots
        self._validations = 0
        self._every = 1
        self._kept: list[int] = []
        self._done_step = self._validated_step = -1

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TranslationTask)
        last = trainer.state.fn != "fit" or trainer.global_step == trainer.max_steps
        if trainer.sanity_checking or not self._sentences:
            return
        self._validated_step = pl_module.global_step
        due = trainer.state.fn == "fit" and self._is_due()
        if due:
            self._kept.append(pl_module.global_step)
        if due or last:
            self.take(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TranslationTask)
        # A run that ends early or by its epochs does not know at a validation that it is the last.
        if self._sentences and self._validated_step == pl_module.global_step:
            self.take(trainer, pl_module)

    def _is_due(self) -> bool:
        """Whether this validation is one to keep; makes room for it."""
        place, self._validations = self._validations, self._validations + 1
        if not self._max_snapshots or place % self._every:
            return False
        if len(self._kept) < self._max_snapshots:
            return True
        for step in self._kept[1::2]:
            # A run that goes on from an earlier state may have deleted it before.
            if (snapshot := snapshot_file(self._folder, step, 0).parent).exists():
                shutil.rmtree(snapshot)
        self._kept = self._kept[::2]
        self._every *= 2
        return place % self._every == 0

    def state_dict(self) -> dict[str, Any]:
        return {
            "validations": self._validations,
            "every": self._every,
            "kept": list(self._kept),
            "done_step": self._done_step,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._done_step = state_dict["done_step"]
        # The state of an older version has nothing else of use: what that has left stays, and counting begins here.
        self._validations = state_dict.get("validations", 0)
        self._every = state_dict.get("every", 1)
        self._kept = list(state_dict.get("kept", []))

    def take(self, trainer: L.Trainer, task: TranslationTask) -> None:
        """Record and log the patterns of the model as it is now; once a step."""
        step = task.global_step
        pairs = varied(task.data.corpus.sets["val"], self._sentences)
        if step == self._done_step or not pairs:
            return
        self._done_step = step
        src, tgt = task.data.src_tokenizer, task.data.tgt_tokenizer
        recorded = patterns_of_pairs(task.whole_model, src, tgt, [(pair.source, pair.target) for pair in pairs])
        for patterns in recorded:
            task.missing_patterns |= patterns.missing
        snapshots = [Snapshot(patterns, pair.alignment) for patterns, pair in zip(recorded, pairs, strict=True)]
        for index, snapshot in enumerate(snapshots):
            write_snapshot(snapshot_file(self._folder, step, index), snapshot)
        loggers = [logger for logger in trainer.loggers if isinstance(logger, WandbLogger)]
        if loggers:
            for site, (picture, caption) in draw_snapshot(snapshots[0], step, task.val_scores).items():
                for logger in loggers:
                    logger.log_image(f"patterns/{site}", [picture], step=step, caption=[caption])


def varied(pairs: Sequence[SentencePair], count: int) -> list[SentencePair]:
    """`count` pairs that show much: each one that adds the most tags to those before it, then the one with the most."""
    chosen: list[SentencePair] = []
    left, shown = list(pairs), set[str]()
    while left and len(chosen) < count:
        best = max(left, key=lambda pair: (len(set(pair.tags) - shown), len(pair.tags)))
        left.remove(best)
        chosen.append(best)
        shown.update(best.tags)
    return chosen
