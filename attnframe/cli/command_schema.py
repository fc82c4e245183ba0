"""Types of the config values of the commands that train nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from attnframe.cli.train_schema import ModelSchema


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
