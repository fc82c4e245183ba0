"""Types of every config value: what Hydra checks overrides and YAML files against."""

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
class DataSchema:
    """What every data source has. `max_tokens` is the token budget of a batch, source and target together.

    `tokenizer` is word or bpe. Text is brought into the Unicode form `normalization` (NFC, NFKC, null for none) before
    it is split into words, and `lowercase` acts on each word after. `min_count` is for word only; `vocab_size` is the
    largest vocabulary of a side, null meaning no limit for word and 8000 for bpe.
    """

    name: str = MISSING
    tokenizer: str = "word"
    lowercase: bool = False
    normalization: str | None = "NFC"
    min_count: int = 1
    vocab_size: int | None = None
    max_tokens: int = 4096
    eval_max_tokens: int = 8192


@dataclass
class GrammarSchema(DataSchema):
    """Sizes in sentence pairs, lengths in source tokens."""

    train_size: int = MISSING
    val_size: int = MISSING
    test_size: int = MISSING
    held_out_size: int = MISSING
    seed: int = 0
    max_length: int = MISSING
    longer_max_length: int = MISSING


@dataclass
class TatoebaSchema(DataSchema):
    """Sizes in source sentences, length in words a side; `path` null downloads `url` once."""

    path: str | None = None
    url: str = MISSING
    languages: tuple[str, str] = ("en", "fr")
    val_size: int | None = MISSING
    test_size: int | None = MISSING
    max_length: int | None = None
    bad_lines: str = "error"


@dataclass
class ParallelFileSchema(DataSchema):
    """`path`, or `source_path` with `target_path`. Sizes in source sentences, null a tenth; length in words a side."""

    path: str | None = None
    source_path: str | None = None
    target_path: str | None = None
    alignment_path: str | None = None
    languages: tuple[str, str] = ("en", "fr")
    val_size: int | None = None
    test_size: int | None = None
    max_length: int | None = 100
    bad_lines: str = "error"
    use: str = "split"


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
class TranslateSchema:
    """A run and how it translates. `checkpoint` is best or last, `device` auto, cpu or cuda."""

    run: str = MISSING
    checkpoint: str = "best"
    device: str = "auto"
    decoding: Any = MISSING


@dataclass
class ExplainSchema:
    """A run to look into. `checkpoint` is best or last, `device` auto, cpu or cuda."""

    run: str = MISSING
    checkpoint: str = "best"
    device: str = "auto"


@dataclass
class EvalSchema(TranslateSchema):
    """The same, the data to translate (null: the run's own), and the tokens in a batch (null: as the data says)."""

    data: Any = None
    max_tokens: int | None = None


@dataclass
class AblateSchema:
    """A run and what its attention is taken away on: the first `sentences` of `set`.

    `set` null is val, or test where `data` is not the run's own (null); `mode` is zero, uniform or both; the others are
    as for eval.
    """

    run: str = MISSING
    checkpoint: str = "best"
    device: str = "auto"
    set: str | None = None
    sentences: int = 500
    mode: str = "both"
    data: Any = None
    max_tokens: int | None = None


@dataclass
class MeasuringSchema:
    """What `attnframe bench` measures, and how often.

    `timed` is module, attend or both. A batch has `batch` sequences, or with `tokens` so many tokens in all. In each of
    `rounds` every line is timed once, after `warm_up` calls that do not count.
    """

    timed: list[str] = MISSING
    lengths: list[int] = MISSING
    dtypes: list[str] = MISSING
    causal: bool = False
    batch: int = 1
    tokens: int | None = None
    backward: bool = True
    rounds: int = MISSING
    warm_up: int = MISSING


@dataclass
class BenchSchema:
    """One line of a benchmark: a variant on a backend, at the sizes of a model. `device` is auto, cpu or cuda."""

    model: ModelSchema = field(default_factory=ModelSchema)
    attention: Any = MISSING
    backend: Any = MISSING
    device: str = "auto"
    seed: int = 0
    bench: MeasuringSchema = field(default_factory=MeasuringSchema)


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
