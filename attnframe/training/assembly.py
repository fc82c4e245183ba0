"""Everything that a run is made of, put together from its settings."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, Timer

from attnframe.model import AttentionFactory, Seq2Seq
from attnframe.runs.building import build_model
from attnframe.runs.decoding import Decoding
from attnframe.runs.folder import RunFolder
from attnframe.training.attention_rows import AttentionRows
from attnframe.training.checkpoints import Checkpoints
from attnframe.training.data_module import TranslationData
from attnframe.training.early_stopping import make_early_stopping
from attnframe.training.head_log import HeadLog
from attnframe.training.interruption import Interruption
from attnframe.training.manifest import make_manifest, settle_backends
from attnframe.training.metrics_log import MetricsLog
from attnframe.training.optimization import check_schedule
from attnframe.training.parallelism import is_sharded
from attnframe.training.pattern_snapshots import PatternSnapshots
from attnframe.training.place import Place
from attnframe.training.progress import ProgressLine, working
from attnframe.training.pruning import Pruning, SearchTrial
from attnframe.training.task import TranslationTask
from attnframe.training.trainer import make_trainer
from attnframe.training.world import ALONE, World


class Assembly:
    """Data, model, callbacks and trainer of a run; nothing is written yet. `shown` says whether progress is.

    Each process of `world` makes its own; only those of the first one write. `trial` is the run's part in a search, if
    it has one.

    Raises `UserError` for settings of which no run can be made here.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        folder: RunFolder,
        attention: AttentionFactory,
        world: World = ALONE,
        trial: SearchTrial | None = None,
    ) -> None:
        self.settings, self.folder, self.attention, self.world = settings, folder, attention, world
        self.trial = trial
        self.shown: bool = settings["trainer"]["enable_progress_bar"] and world.is_first
        self.attention_rows = AttentionRows.of(settings, world)
        # Before the seed is set, for it makes modules to look at.
        self.attention_rows.check(attention)
        L.seed_everything(settings["seed"], workers=True, verbose=False)
        with working("reading data", shown=self.shown):
            self.data = TranslationData(settings["data"], seed=settings["seed"], world=world)
        src, tgt = self.data.src_tokenizer, self.data.tgt_tokenizer
        self.model = build_model(settings, attention, src_vocab_size=len(src), tgt_vocab_size=len(tgt))
        self.task = self._task(self.model, world, sharded=is_sharded(settings["trainer"]))
        # A schedule that needs an end is refused here, and not when training begins.
        check_schedule(settings)
        trainer = settings["trainer"]
        self.place = Place(self.data, world)
        self.metrics = MetricsLog(
            folder, every=trainer["log_every_n_steps"], attention_rows=self.attention_rows, world=world
        )
        self.checkpoints = Checkpoints(folder, self.place, self.metrics.untimed, world)
        self.interruption = Interruption(self.place, self.checkpoints, world)
        # Not the trainer's own, which there is only with a limit: the time is kept for a limit that comes later.
        callbacks = [*self._callbacks(attention), Timer(trainer["max_time"])]
        self.trainer = make_trainer({**trainer, "max_time": None}, folder, callbacks, world)
        self.backends = settle_backends(self.model, attention, self.trainer)
        if not world.is_first:
            # The weights are the same everywhere by now; what dropout draws from here on must not be.
            L.seed_everything(_seed_of(settings["seed"], world.rank), workers=True, verbose=False)

    def evaluated_task(self) -> TranslationTask:
        """A task over the whole model, for one process that evaluates it alone when training is over."""
        whole = self.task.whole_model
        return self.task if whole is self.model else self._task(whole, ALONE)

    def _task(self, model: Seq2Seq, world: World, *, sharded: bool = False) -> TranslationTask:
        return TranslationTask(
            model,
            self.data,
            optimizer=self.settings["optimizer"],
            scheduler=self.settings["scheduler"],
            decoding=Decoding.of(self.settings["decoding"]),
            attention_rows=self.attention_rows,
            world=world,
            sharded=sharded,
        )

    def _callbacks(self, attention: AttentionFactory) -> list[Callback]:
        callbacks = self.settings["callbacks"]
        patterns = callbacks["patterns"]
        looking: list[Callback] = [
            PatternSnapshots(self.folder, sentences=patterns["sentences"], max_snapshots=patterns["max_snapshots"]),
            # A run of a version without statistics goes on without.
            HeadLog(self.folder, attention.widths, sentences=patterns.get("statistics", 0)),
        ]
        return [
            self.place,
            *(looking if self.world.is_first else []),
            # After the patterns, for what they take at a validation is no training time.
            self.metrics,
            self.interruption,
            *([] if self.trial is None else [Pruning(self.trial.advice, self.place, self.checkpoints, self.world)]),
            *make_early_stopping(callbacks["early_stopping"]),
            *([ProgressLine()] if self.shown else []),
            self.checkpoints,
        ]

    def manifest(self) -> dict[str, Any]:
        """Everything needed to know what runs."""
        search = None if self.trial is None else self.trial.description
        return make_manifest(self.settings, self.data, self.model, self.trainer, self.backends, search)


def _seed_of(seed: int, rank: int) -> int:
    """The seed of a process after the first: unrelated to those of other processes and of other runs."""
    return random.Random(f"{seed},{rank}").getrandbits(32)
