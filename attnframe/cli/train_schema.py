"""Types of every config value of a run but its data: what Hydra checks overrides and YAML files against."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING


@dataclass
class EncoderSchema:
    """Where the encoder differs from the decoder; null takes the model's value."""

    d_model: int | None = None
    num_layers: int | None = None


@dataclass
class ModelSchema:
    """Sizes. `num_layers` counts the layers of each stack; `head_dim`, if given, must be d_model / num_heads."""

    kind: str = "seq2seq"
    d_model: int = MISSING
    num_heads: int = MISSING
    head_dim: int | None = None
    d_ff: int = MISSING
    num_layers: int = MISSING
    dropout: float = 0.1
    attention_dropout: float = 0.0
    bias: bool = True
    encoder: EncoderSchema = field(default_factory=EncoderSchema)


@dataclass
class GreedySchema:
    """Greedy decoding has no options."""

    name: str = "greedy"


@dataclass
class BeamSchema:
    """`beam_size` hypotheses are kept; `length_penalty` 0 ranks them by their probability alone."""

    name: str = "beam"
    beam_size: int = MISSING
    length_penalty: float = MISSING


@dataclass
class OptimizerSchema:
    """AdamW, and what it minimises: the loss with its labels smoothed, and losses on the rows of attention.

    `entropy_weight` times the mean entropy of a row (nats) is added: above 0 sharpens attention, below 0 spreads it.
    `z_loss_weight` times the mean square of a row's log-sum-exp is added, against scores that grow.
    """

    name: str = MISSING
    lr: float = MISSING
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-9
    weight_decay: float = 0.01
    label_smoothing: float = 0.1
    entropy_weight: float = 0.0
    z_loss_weight: float = 0.0


@dataclass
class SchedulerSchema:
    """Learning rate over steps."""

    name: str = MISSING
    warmup_steps: int = MISSING
    final_ratio: float = 0.0


@dataclass
class TrainerSchema:
    """Arguments of lightning.Trainer that a run may set, with Lightning's meaning of each.

    `max_steps` null means 1000, or no limit where `max_epochs` or `max_time` is given. `val_check_interval` counts
    batches. With `accumulate_grad_batches` the loss of a step is the mean of its batches' means over target tokens.
    `strategy` is auto for one device, ddp or fsdp for a process for each of `devices` (how many, or which GPUs) on each
    of `num_nodes` machines.
    """

    accelerator: str = "auto"
    strategy: str = "auto"
    devices: Any = 1
    num_nodes: int = 1
    precision: Any = "32-true"
    max_steps: int | None = None
    max_epochs: int | None = None
    min_steps: int | None = None
    min_epochs: int | None = None
    max_time: Any = None
    val_check_interval: Any = None
    check_val_every_n_epoch: int | None = None
    limit_train_batches: Any = None
    limit_val_batches: Any = None
    limit_test_batches: Any = None
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str | None = None
    log_every_n_steps: int = 50
    num_sanity_val_steps: int = 0
    deterministic: Any = None
    benchmark: bool | None = None
    detect_anomaly: bool = False
    profiler: str | None = None
    enable_progress_bar: bool = True


@dataclass
class LayersSchema:
    """One variant per layer of a site; null takes the site's variant for all."""

    encoder_self: list[Any] | None = None
    decoder_self: list[Any] | None = None
    cross: list[Any] | None = None


@dataclass
class EarlyStoppingSchema:
    """Stop after `patience` validations without a better `monitor`; null never stops."""

    patience: int | None = None
    monitor: str = "val/loss"


@dataclass
class PatternsSchema:
    """What is kept of attention at validations; 0 turns it off.

    The patterns of `sentences` of the validation set, `max_snapshots` times spread over the run; statistics of every
    head over the first `statistics` sentences of it.
    """

    sentences: int = 3
    max_snapshots: int = 20
    statistics: int = 100


@dataclass
class MaxScoreSchema:
    """Watch the greatest score of each head, and count the heads that go beyond `threshold`; null watches nothing."""

    threshold: float | None = None


@dataclass
class CallbacksSchema:
    """What happens around the training loop."""

    early_stopping: EarlyStoppingSchema = field(default_factory=EarlyStoppingSchema)
    patterns: PatternsSchema = field(default_factory=PatternsSchema)
    max_score: MaxScoreSchema = field(default_factory=MaxScoreSchema)


@dataclass
class TrainSchema:
    """The whole config of a run. `sweep` names the folder of a sweep, below outputs/sweeps/.

    `match` is params, flops (at `match_length` tokens a sequence) or null: what `model.d_ff` is turned for, so that the
    model costs as much as one with the variant `match_to`.
    """

    name: str = MISSING
    sweep: str = MISSING
    seed: int = 1
    data: Any = MISSING
    model: ModelSchema = field(default_factory=ModelSchema)
    attention: Any = MISSING
    encoder_self: Any = None
    decoder_self: Any = None
    cross: Any = None
    layers: LayersSchema = field(default_factory=LayersSchema)
    match: str | None = None
    match_to: str = "multi_head"
    match_length: int = 128
    backend: Any = MISSING
    optimizer: OptimizerSchema = field(default_factory=OptimizerSchema)
    scheduler: SchedulerSchema = field(default_factory=SchedulerSchema)
    trainer: TrainerSchema = field(default_factory=TrainerSchema)
    decoding: Any = MISSING
    logger: Any = field(default_factory=dict)
    callbacks: CallbacksSchema = field(default_factory=CallbacksSchema)
