"""How long a run will take, from a few of its steps timed on this machine."""

from __future__ import annotations

import contextlib
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils.data import DataLoader

from attnframe.attention import Attention, settle_backend
from attnframe.backends import dtype_of
from attnframe.data.batching import Batch
from attnframe.model import AttentionFactory, Hypothesis, IncrementalDecoder, Seq2Seq
from attnframe.runs.building import build_model, device_type
from attnframe.runs.decoding import Decoding
from attnframe.training.attention_rows import AttentionRows
from attnframe.training.evaluation import Evaluation
from attnframe.training.optimization import make_optimizer, token_losses
from attnframe.training.workload import Workload, limited

if TYPE_CHECKING:
    from attnframe.training.data_module import TranslationData

TIMED_SECONDS = 1.5
"""Steps are timed until they have taken so long together."""

FEWEST_STEPS = 2
"""Timed in any case."""


def estimate_seconds(
    settings: Mapping[str, Any],
    attention: AttentionFactory,
    data: TranslationData | None = None,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> float | None:
    """Seconds that a run of `settings` would take on this machine as busy as it is now; None if it sets itself no end.

    A model as the run's is trained for a second or two on the run's own batches: the median step, times the number of
    steps. One batch of the validation set and of each test set, from the middle of its lengths, is evaluated and
    decoded to the length of its references; times their numbers. `trainer.max_time` bounds training from above.
    `data` are those of the run; without, they are read. `clock` tells the seconds.

    Left out: imports and reading data, what Lightning and callbacks do at a step, pattern snapshots and statistics of
    heads, checkpoints, loggers, the report, early stopping, compilation, `trainer.deterministic`, and that a model
    which has learned little may say twice as much as a reference. Random numbers, gradients' mode and torch's threads
    and flags are afterwards what they were; nothing is kept. Raises `UserError` for settings of which no run can be
    made.
    """
    with _random_state_kept(), torch.enable_grad():
        if data is None:
            # Here and not above: Lightning takes seconds to import.
            from attnframe.training.data_module import TranslationData

            data = TranslationData(settings["data"], seed=settings["seed"])
        bench = _Bench(settings, attention, data, clock)
        trainer, tests = settings["trainer"], data.test_dataloader()
        train, val = data.train_dataloader(), data.val_dataloader()
        workload = Workload.of(trainer, train=len(train), val=len(val), tests=[len(loader) for loader in tests])
        step = bench.step(_endlessly(train), workload.batches_a_step)
        val_batch = bench.evaluation("val", val, trainer["limit_val_batches"], Decoding())
        decoding = Decoding.of(settings["decoding"])
        test_batches = [
            bench.evaluation(name, loader, trainer["limit_test_batches"], decoding)
            for name, loader in zip(data.corpus.test_sets, tests, strict=True)
        ]
    return workload.seconds(step=step, val_batch=val_batch, test_batches=test_batches)


class _Bench:
    """The model of a run on the run's device, and how long what is done with it takes, in seconds."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        attention: AttentionFactory,
        data: TranslationData,
        clock: Callable[[], float],
    ) -> None:
        self._data, self._clock = data, clock
        self._device = torch.device(device_type(settings["trainer"]["accelerator"]))
        precision = settings["trainer"]["precision"]
        dtype = dtype_of(precision)
        src, tgt = data.src_tokenizer, data.tgt_tokenizer
        self._model = build_model(settings, attention, src_vocab_size=len(src), tgt_vocab_size=len(tgt))
        for module in self._model.modules():
            if isinstance(module, Attention):
                d_model, d_context = attention.widths(module.site)
                settle_backend(
                    module,
                    d_model=d_model,
                    d_context=d_context,
                    device=self._device.type,
                    dtype=dtype,
                    trains=True,
                )
        self._is_mixed = "mixed" in str(precision)
        self._dtype = dtype
        self._model.to(self._device, None if self._is_mixed else dtype)
        self._optimizer = make_optimizer(self._model, settings["optimizer"])
        self._label_smoothing = settings["optimizer"]["label_smoothing"]
        self._attention_rows = AttentionRows.of(settings)

    def step(self, batches: Iterator[Batch], batches_a_step: int) -> float:
        """One step of the optimizer, the median of several."""
        self._train(batches, batches_a_step)  # the first one waits for much that is done once
        taken: list[float] = []
        while len(taken) < FEWEST_STEPS or sum(taken) < TIMED_SECONDS:
            begin = self._now()
            self._train(batches, batches_a_step)
            taken.append(self._now() - begin)
        return statistics.median(taken)

    def evaluation(self, name: str, loader: DataLoader[Any], limit: Any, decoding: Decoding) -> float:
        """One batch of the set `name`, with its scores."""
        count = limited(len(loader), limit)
        if not count:
            return 0.0
        batch = next(islice(loader, count // 2, None)).to(self._device)
        self._model.eval()
        data = self._data
        search = _ToTheReferences(batch, decoding)
        evaluation = Evaluation(self._model, data.corpus.sets[name], data.src_tokenizer, data.tgt_tokenizer, search)  # type: ignore[arg-type]
        begin = self._now()
        with self._precision():
            evaluation.add(batch)
        evaluation.scores(evaluation.choose(), split=name != "val")
        return self._now() - begin

    def _train(self, batches: Iterator[Batch], batches_a_step: int) -> None:
        self._model.train()
        for batch in islice(batches, batches_a_step):
            batch = batch.to(self._device)
            with self._precision():
                with self._attention_rows.recording(self._model) as rows:
                    logits = self._model(batch.src, batch.src_keep, batch.tgt_in)
                loss, _ = token_losses(logits, batch.tgt_out, self._label_smoothing)
                loss = loss + self._attention_rows.losses(rows, batch)[0]
            (loss / batches_a_step).backward()
        torch.nn.utils.clip_grad_norm_(self._model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()

    def _precision(self) -> contextlib.AbstractContextManager[Any]:
        return torch.autocast(self._device.type, self._dtype) if self._is_mixed else contextlib.nullcontext()

    def _now(self) -> float:
        if self._device.type != "cpu":
            torch.accelerator.synchronize()
        return self._clock()


@dataclass(frozen=True)
class _ToTheReferences:
    """A search that takes as many steps, over as many rows, as one that finds exactly the references of `batch`.

    What a model says that has hardly been trained is no guide to how long the trained one's sentences will be.
    """

    batch: Batch
    decoding: Decoding

    def __call__(
        self, model: Seq2Seq, src: Int[Tensor, "batch source"], src_keep: Bool[Tensor, "batch source"]
    ) -> list[list[Hypothesis]]:
        tokens, lengths = self.batch.tgt_out, self.batch.tgt_keep.sum(dim=1)
        decoder = IncrementalDecoder(model, src, src_keep)
        sentence = torch.arange(len(src), device=src.device)
        for step in range(tokens.shape[1]):
            decoder.log_probabilities().max(dim=1)
            on = (lengths[sentence] > step + 1).nonzero()[:, 0]
            if step == 0:
                on = on.repeat_interleave(self.decoding.beam_size)
            sentence = sentence[on]
            decoder.advance(on, tokens[sentence, step])
        return [
            [Hypothesis(tuple(ids[: length - 1]), 0.0, 0.0)]
            for ids, length in zip(tokens.tolist(), lengths.tolist(), strict=True)
        ]


def _endlessly(batches: Iterable[Batch]) -> Iterator[Batch]:
    while True:
        yield from batches


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Draw as many random numbers inside as one likes: Python's, numpy's and torch's go on as if there were none."""
    numpy = sys.modules.get("numpy")
    ours, numpys = random.getstate(), numpy.random.get_state() if numpy else None
    try:
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            yield
    finally:
        random.setstate(ours)
        if numpy:
            numpy.random.set_state(numpys)
