"""Everything that a run is made of, put together from its settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, Timer

from attnframe.model import AttentionFactory
from attnframe.runs.building import build_model
from attnframe.runs.decoding import Decoding
from attnframe.runs.folder import RunFolder
from attnframe.training.checkpoints import Checkpoints
from attnframe.training.data_module import TranslationData
from attnframe.training.early_stopping import make_early_stopping
from attnframe.training.head_log import HeadLog
from attnframe.training.interruption import Interruption
from attnframe.training.manifest import make_manifest, settle_backends
from attnframe.training.metrics_log import MetricsLog
from attnframe.training.optimization import check_schedule
from attnframe.training.pattern_snapshots import PatternSnapshots
from attnframe.training.place import Place
from attnframe.training.progress import ProgressLine, working
from attnframe.training.pruning import Pruning, SearchTrial
from attnframe.training.task import TranslationTask
from attnframe.training.trainer import make_trainer


class Assembly:
    """Data, model, callbacks and trainer of a run; nothing is written yet. `shown` says whether progress is.

    `trial` is the run's part in a search, if it has one. Raises `UserError` for settings of which no run can be made
    here.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        folder: RunFolder,
        attention: AttentionFactory,
        trial: SearchTrial | None = None,
    ) -> None:
        self.settings, self.folder, self.trial = settings, folder, trial
        self.shown: bool = settings["trainer"]["enable_progress_bar"]
        L.seed_everything(settings["seed"], workers=True, verbose=False)
        with working("reading data", shown=self.shown):
            self.data = TranslationData(settings["data"], seed=settings["seed"])
        src, tgt = self.data.src_tokenizer, self.data.tgt_tokenizer
        self.model = build_model(settings, attention, src_vocab_size=len(src), tgt_vocab_size=len(tgt))
        self.task = TranslationTask(
            self.model,
            self.data,
            optimizer=settings["optimizer"],
            scheduler=settings["scheduler"],
            decoding=Decoding.of(settings["decoding"]),
        )
        # A schedule that needs an end is refused here, and not when training begins.
        check_schedule(settings)
        trainer = settings["trainer"]
        self.place = Place(self.data)
        self.metrics = MetricsLog(folder, every=trainer["log_every_n_steps"])
        self.checkpoints = Checkpoints(folder, self.place, self.metrics.untimed)
        self.interruption = Interruption(self.place, self.checkpoints)
        # Not the trainer's own, which there is only with a limit: the time is kept for a limit that comes later.
        callbacks = [*self._callbacks(attention), Timer(trainer["max_time"])]
        self.trainer = make_trainer({**trainer, "max_time": None}, folder, callbacks)
        self.backends = settle_backends(self.model, attention, self.trainer)

    def _callbacks(self, attention: AttentionFactory) -> list[Callback]:
        callbacks = self.settings["callbacks"]
        patterns = callbacks["patterns"]
        return [
            self.place,
            PatternSnapshots(self.folder, sentences=patterns["sentences"], max_snapshots=patterns["max_snapshots"]),
            # A run of a version without statistics goes on without.
            HeadLog(self.folder, attention.widths, sentences=patterns.get("statistics", 0)),
            # After the patterns, for what they take at a validation is no training time.
            self.metrics,
            self.interruption,
            *([] if self.trial is None else [Pruning(self.trial.advice, self.place, self.checkpoints)]),
            *make_early_stopping(callbacks["early_stopping"]),
            *([ProgressLine()] if self.shown else []),
            self.checkpoints,
        ]

    def manifest(self) -> dict[str, Any]:
        """Everything needed to know what runs."""
        search = None if self.trial is None else self.trial.description
        return make_manifest(self.settings, self.data, self.model, self.trainer, self.backends, search)
