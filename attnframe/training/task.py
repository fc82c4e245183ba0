"""The translation task: how a step is taken and how a set is evaluated."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from attnframe.data.batching import Batch
from attnframe.model import Seq2Seq
from attnframe.patterns import missing_sentences
from attnframe.runs.decoding import GREEDY, Decoding
from attnframe.training.attention_rows import AttentionRows
from attnframe.training.data_module import TranslationData
from attnframe.training.evaluation import AlignmentChoice, Evaluation
from attnframe.training.optimization import make_optimizer, make_schedule, parameter_groups, token_losses
from attnframe.training.world import ALONE, World

_log = logging.getLogger(__name__)


class TranslationTask(L.LightningModule):
    """Teacher-forced training, and evaluation by `Evaluation` on the validation set and each test set.

    What `attention_rows` asks for is added to the loss; `train/loss` is the loss without it.

    Translations are greedy in validations; in tests they are searched for by `decoding`.

    After a validation `val_scores` holds its scores and `alignment_choice` the heads that align best, if any has a
    pattern; after a test `test_evaluations` holds one evaluation for each test set. `missing_patterns` gathers why a
    (site, layer) has none (`patterns.Patterns.missing`) from whoever records; the log says it once.

    In a `world` of several processes each trains on its share of a batch, and the first one evaluates for all.
    `whole_model` is what it evaluates: `model`, or, where training spreads the weights over the processes
    (`sharded`), a copy with the weights of the last validation.
    """

    def __init__(
        self,
        model: Seq2Seq,
        data: TranslationData,
        *,
        optimizer: Mapping[str, Any],
        scheduler: Mapping[str, Any],
        decoding: Decoding = GREEDY,
        attention_rows: AttentionRows | None = None,
        world: World = ALONE,
        sharded: bool = False,
    ) -> None:
        super().__init__()
        self.model = model
        # In a list, for it is no part of what is trained.
        self._whole_model = [copy.deepcopy(model) if sharded and world.is_first else model]
        self._sharded = sharded
        self.data = data
        self._world = world
        self._optimizer_settings = optimizer
        self._scheduler_settings = scheduler
        self._decoding = decoding
        self._attention_rows = attention_rows or AttentionRows()
        # Made now: the matrices of a model that is spread over processes have no shape any more.
        self._parameter_groups = parameter_groups(model, optimizer)
        # What is computed, and grows with the sentences that a process has seen, is not to be made equal.
        derived = {name for name, _ in self.named_buffers()} - self.state_dict().keys()
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, sorted(derived))
        self.train_scores: dict[str, Tensor | float] = {}
        self.val_scores: dict[str, float] = {}
        self.val_evaluation: Evaluation | None = None
        self.test_evaluations: list[Evaluation] = []
        self.alignment_choice: AlignmentChoice | None = None
        self.missing_patterns: dict[tuple[str, int], str] = {}
        self._told_missing: set[tuple[str, int]] = set()

    @property
    def whole_model(self) -> Seq2Seq:
        return self._whole_model[0]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        with self._attention_rows.recording(self.model) as rows:
            logits = self.model(batch.src, batch.src_keep, batch.tgt_in)
        # The mean of the processes' losses and gradients is then that over the tokens of the whole batch.
        tokens = batch.all_target_tokens / self._world.size
        loss, nll = token_losses(logits, batch.tgt_out, self._optimizer_settings["label_smoothing"], tokens=tokens)
        added, scores = self._attention_rows.losses(rows, batch)
        self.train_scores = {"train/loss": loss.detach(), "train/nll": nll.detach(), **scores}
        return loss if rows is None else loss + added

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        # Here, for after the step the schedule has already set the rate of the next one.
        self.train_scores["train/learning_rate"] = optimizer.param_groups[0]["lr"]
        # Not Lightning's clip_gradients: under bf16-mixed it refuses a fused optimizer, though nothing was scaled.
        by_value = gradient_clip_algorithm == "value"
        limit = math.inf if by_value or not gradient_clip_val else gradient_clip_val
        wrapped = self.trainer.strategy.model
        if isinstance(wrapped, FullyShardedDataParallel):
            self.train_scores["train/grad_norm"] = wrapped.clip_grad_norm_(limit)
        else:
            self.train_scores["train/grad_norm"] = torch.nn.utils.clip_grad_norm_(self.parameters(), limit)
        if by_value and gradient_clip_val:
            torch.nn.utils.clip_grad_value_(self.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        # Under fp16 the scaler has to unscale the gradients before they are clipped, which the fused step forbids.
        fused = self.trainer.precision != "16-mixed"
        groups = self._parameter_groups
        optimizer = make_optimizer(self.model, self._optimizer_settings, fused=fused, groups=groups)
        total = self.trainer.estimated_stepping_batches
        schedule = make_schedule(optimizer, self._scheduler_settings, math.inf if total in (-1, math.inf) else total)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        # A run that goes on may have a new end, and its checkpoint the rate of the next step for the old one.
        schedule = self.lr_schedulers()
        assert isinstance(schedule, LambdaLR)
        groups = zip(schedule.optimizer.param_groups, schedule.base_lrs, schedule.lr_lambdas, strict=True)
        for group, lr, factor in groups:
            group["lr"] = lr * factor(schedule.last_epoch)

    def on_validation_epoch_start(self) -> None:
        if self._sharded:
            weights = self.trainer.strategy.lightning_module_state_dict()
            if self._world.is_first:
                self._take_whole_weights(weights)
        self.val_evaluation = self._evaluation("val", GREEDY)

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        if self._world.is_first:
            assert self.val_evaluation is not None
            self.val_evaluation.add(batch)

    def on_validation_epoch_end(self) -> None:
        assert self.val_evaluation is not None
        if self._world.is_first:
            self.missing_patterns |= self.val_evaluation.missing_patterns
            self.alignment_choice = self.val_evaluation.choose()
            scores = self.val_evaluation.scores(self.alignment_choice)
            self.val_scores = {f"val/{name}": value for name, value in scores.items()}
        # What is best and when to stop is decided by these, and alike everywhere.
        self.val_scores = self._world.from_first(self.val_scores)
        # For callbacks that monitor a score; what is logged, and where, is the metrics log's business.
        self.log_dict(self.val_scores, logger=False)

    def on_validation_end(self) -> None:
        # Here the callbacks have recorded what they record.
        self._tell_missing_patterns()

    def on_test_epoch_start(self) -> None:
        self.test_evaluations = [self._evaluation(name, self._decoding) for name in self.data.corpus.test_sets]

    def test_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.test_evaluations[dataloader_idx].add(batch)

    def on_test_end(self) -> None:
        for evaluation in self.test_evaluations:
            self.missing_patterns |= evaluation.missing_patterns
        self._tell_missing_patterns()

    def _tell_missing_patterns(self) -> None:
        new = {place: self.missing_patterns[place] for place in self.missing_patterns.keys() - self._told_missing}
        for sentence in missing_sentences(new):
            _log.warning("%s; it is trained and scored all the same", sentence)
        self._told_missing |= new.keys()

    def _take_whole_weights(self, weights: Mapping[str, Any]) -> None:
        self.whole_model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
        self.whole_model.to(self.device).eval()

    def _evaluation(self, name: str, decoding: Decoding) -> Evaluation:
        data = self.data
        return Evaluation(self.whole_model, data.corpus.sets[name], data.src_tokenizer, data.tgt_tokenizer, decoding)
