"""Where numbers go while training: `metrics.csv`, and every logger."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L

from attnframe.data.batching import Batch
from attnframe.runs.folder import RunFolder
from attnframe.training.attention_rows import AttentionRows
from attnframe.training.metric_names import COLUMNS
from attnframe.training.task import TranslationTask
from attnframe.training.world import ALONE, World

_EVERY = 50
_SOLVED = 0.95


class MetricsLog(L.Callback):
    """A row every `every` steps (50 at most) and at each validation, written through at once.

    Steps count finished optimizer steps; seconds are those since the first one began, without the time between a stop
    and going on; tokens are target tokens. `steps_to_95` is the first validated step with an exact match of at least
    0.95. A run that goes on forgets the rows that its checkpoint has not seen, and appends to the others. What is
    written is that of all processes of `world` together, and written by the first one. What `attention_rows` asks for
    has columns of its own; greatest scores are those of all steps since the row before.
    """

    def __init__(
        self, folder: RunFolder, *, every: int, attention_rows: AttentionRows | None = None, world: World = ALONE
    ) -> None:
        self._folder = folder
        self._world = world
        rows = attention_rows or AttentionRows()
        self._max_scores = rows.max_scores
        self._every = max(1, min(every, _EVERY))
        self._columns: Sequence[str] = (*COLUMNS, *rows.columns)
        self._rows = 0
        self._epoch = 0
        self._elapsed = self._started = 0.0
        self.seconds = 0.0
        self._tokens = self._window_tokens = 0
        self._window_seconds = self._window_start = self._outside = 0.0
        self._logged_step = 0
        self.validated_step = -1
        self.steps_to_95: int | None = None

    @property
    def tokens(self) -> int:
        """Target tokens trained on, EOS counted and padding not."""
        return self._tokens

    @property
    def tokens_per_second(self) -> float:
        """Target tokens trained on per second of training, validations and pattern drawing left out."""
        return self._tokens / max(self.seconds, 1e-9)

    @contextmanager
    def untimed(self) -> Iterator[None]:
        """What happens inside is no training time."""
        begun = time.perf_counter()
        yield
        self._window_start += time.perf_counter() - begun

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Here and not at the start of training, which never comes where there is nothing left to train.
        if self._world.is_first:
            self._open()
        self._start_clock()

    def _open(self) -> None:
        file = self._folder.metrics
        kept = self._folder.keep_lines(file.name, 1 + self._rows) if self._rows and file.exists() else 0
        self._rows = max(0, kept - 1)
        if kept:
            # A run of an older version goes on with the columns that it began with.
            with file.open(encoding="utf-8", newline="") as opened:
                self._columns = next(csv.reader(opened))
        else:
            with file.open("w", encoding="utf-8", newline="") as opened:
                csv.writer(opened).writerow(self._columns)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._start_clock()

    def _start_clock(self) -> None:
        now = time.perf_counter()
        self._started, self._window_start = now - self._elapsed, now - self._window_seconds

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, TranslationTask)
        self._window_tokens += batch.all_target_tokens
        # Lightning counts a last epoch that was cut short as a whole one.
        self._epoch = trainer.current_epoch
        step = trainer.global_step
        if step % self._every == 0 and step != self._logged_step:
            self._log_window(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TranslationTask)
        # A run that ends by time, by epochs or early ends anywhere in a window.
        if trainer.global_step != self._logged_step:
            self._log_window(trainer, pl_module)

    def _log_window(self, trainer: L.Trainer, task: TranslationTask) -> None:
        self._logged_step = trainer.global_step
        now = time.perf_counter()
        window = now - self._window_start
        self.seconds += window
        self._tokens += self._window_tokens
        row = self._world.means({name: float(value) for name, value in task.train_scores.items()})
        if self._max_scores is not None:
            row |= self._max_scores.scores()
        row["train/tokens_per_second"] = self._window_tokens / window
        self._window_start, self._window_tokens = now, 0
        self._write(trainer, row)

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._outside = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, TranslationTask)
        # The window of the training rate is moved on by what the validation took.
        self._window_start += time.perf_counter() - self._outside
        if trainer.sanity_checking:
            return
        self.validated_step = trainer.global_step
        if self.steps_to_95 is None and pl_module.val_scores["val/exact_match"] >= _SOLVED:
            self.steps_to_95 = trainer.global_step
        self._write(trainer, pl_module.val_scores)

    def _write(self, trainer: L.Trainer, values: Mapping[str, float]) -> None:
        if not self._world.is_first:
            return
        step = trainer.global_step
        row = {"step": step, "epoch": self._epoch, "seconds": round(time.perf_counter() - self._started, 3)}
        with self._folder.metrics.open("a", encoding="utf-8", newline="") as file:
            known = {key: value for key, value in values.items() if key in self._columns or key not in COLUMNS}
            csv.DictWriter(file, self._columns, extrasaction="raise").writerow({**row, **known})
        self._rows += 1
        for logger in trainer.loggers:
            logger.log_metrics(dict(values), step=step)

    def state_dict(self) -> dict[str, Any]:
        now = time.perf_counter()
        return {
            "rows": self._rows,
            "epoch": self._epoch,
            "elapsed": now - self._started,
            "seconds": self.seconds,
            "tokens": self._tokens,
            "window_seconds": now - self._window_start,
            "window_tokens": self._window_tokens,
            "logged_step": self._logged_step,
            "validated_step": self.validated_step,
            "steps_to_95": self.steps_to_95,
            "max_scores": {} if self._max_scores is None else self._max_scores.state_dict(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._rows, self._epoch = state_dict["rows"], state_dict["epoch"]
        self._elapsed, self.seconds, self._tokens = (state_dict[key] for key in ("elapsed", "seconds", "tokens"))
        self._window_seconds, self._window_tokens = state_dict["window_seconds"], state_dict["window_tokens"]
        self._logged_step, self.validated_step = state_dict["logged_step"], state_dict["validated_step"]
        self.steps_to_95 = state_dict["steps_to_95"]
        if self._max_scores is not None:
            self._max_scores.load_state_dict(state_dict["max_scores"])
