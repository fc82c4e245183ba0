"""The legal values of every option that has a type too wide for them, and the refusal of others."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from typing import Any

from attnframe.cli import command_schema, data_schema, train_schema
from attnframe.cli.value_kinds import Batches, BatchesOrTime, Legal, Names, Numbers, Pair, Time
from attnframe.data.grammar import LARGEST_SET, LONGEST_MAX_LENGTH, SHORTEST_MAX_LENGTH
from attnframe.data.pair_files import BAD_LINES
from attnframe.data.parallel_file import USES
from attnframe.data.special_tokens import SPECIAL_TOKENS
from attnframe.data.text_form import NORMALIZATIONS
from attnframe.data.tokenizer import KINDS
from attnframe.errors import UserError
from attnframe.options import override_value
from attnframe.training.metric_names import MONITORED
from attnframe.training.optimizer_names import OPTIMIZERS, SCHEDULES

_FROM_0 = Numbers(0, whole=True)
_FROM_1 = Numbers(1, whole=True)
_LIMIT = Numbers(1, whole=True, endless=True)
_SET = Numbers(1, LARGEST_SET, whole=True)
# What numpy takes, and with it Lightning.
_SEED = Numbers(0, 2**32 - 1, whole=True)

ACCELERATORS = ("auto", "cpu", "cuda", "gpu", "mps", "tpu")
PRECISIONS = (
    *("16", "32", "64", "bf16", "16-true", "16-mixed", "bf16-true", "bf16-mixed", "32-true", "64-true"),
    *("transformer-engine", "transformer-engine-float16"),
)

LEGAL: Mapping[type, Mapping[str, Legal]] = {
    train_schema.TrainSchema: {"seed": _SEED},
    train_schema.OptimizerSchema: {
        "name": Names(OPTIMIZERS),
        "lr": Numbers(0),
        "betas": Pair(Numbers(0, 1, below=True)),
        # With 0 a weight without a gradient, as that of a word that is not in the batch, becomes 0 / 0.
        "eps": Numbers(0, above=True),
        "weight_decay": Numbers(0),
        "label_smoothing": Numbers(0, 1, below=True),
    },
    train_schema.SchedulerSchema: {"name": Names(SCHEDULES), "warmup_steps": _FROM_0, "final_ratio": Numbers(0, 1)},
    train_schema.TrainerSchema: {
        "accelerator": Names(ACCELERATORS),
        "num_nodes": _FROM_1,
        "precision": Names(PRECISIONS),
        "max_steps": _LIMIT,
        "max_epochs": _LIMIT,
        "min_steps": _FROM_0,
        "min_epochs": _FROM_0,
        "max_time": Time(),
        "val_check_interval": BatchesOrTime(),
        "check_val_every_n_epoch": _FROM_1,
        "limit_train_batches": Batches(),
        "limit_val_batches": Batches(),
        "limit_test_batches": Batches(),
        "accumulate_grad_batches": _FROM_1,
        # Infinity clips nothing.
        "gradient_clip_val": Numbers(0, infinite=True),
        "gradient_clip_algorithm": Names(("norm", "value")),
        "log_every_n_steps": _FROM_0,
        "num_sanity_val_steps": Numbers(0, whole=True, endless=True),
        "deterministic": Names(("true", "false", "warn")),
        "profiler": Names(("simple", "advanced", "pytorch", "xla")),
    },
    train_schema.EarlyStoppingSchema: {"patience": _FROM_0, "monitor": Names(MONITORED)},
    train_schema.PatternsSchema: {"sentences": _FROM_0, "max_snapshots": _FROM_0, "statistics": _FROM_0},
    data_schema.DataSchema: {
        "tokenizer": Names(KINDS),
        "normalization": Names(NORMALIZATIONS),
        "min_count": _FROM_1,
        "vocab_size": Numbers(len(SPECIAL_TOKENS), whole=True),
        "max_tokens": _FROM_1,
        "eval_max_tokens": _FROM_1,
    },
    data_schema.GrammarSchema: {
        **dict.fromkeys(("train_size", "val_size", "test_size", "held_out_size"), _SET),
        "max_length": Numbers(SHORTEST_MAX_LENGTH, LONGEST_MAX_LENGTH, whole=True),
        "longer_max_length": Numbers(SHORTEST_MAX_LENGTH + 1, whole=True),
    },
    data_schema.TatoebaSchema: {
        **dict.fromkeys(("val_size", "test_size", "max_length"), _FROM_1),
        "bad_lines": Names(BAD_LINES),
    },
    data_schema.ParallelFileSchema: {
        **dict.fromkeys(("val_size", "test_size", "max_length"), _FROM_1),
        "bad_lines": Names(BAD_LINES),
        "use": Names(USES),
    },
    command_schema.EvalSchema: {"max_tokens": _FROM_1},
    command_schema.AblateSchema: {"sentences": _FROM_1, "max_tokens": _FROM_1},
    command_schema.BenchSchema: {"seed": _SEED},
    command_schema.MeasuringSchema: {"batch": _FROM_1, "tokens": _FROM_1, "rounds": _FROM_1, "warm_up": _FROM_0},
}
"""By schema and option. What is not here any value of its type may be, or what it acts on checks it before a run."""


def refuse_illegal(node: Mapping[str, Any], schema: type, place: str = "") -> None:
    """Raise `UserError` for a value under `place`, where `schema` is the type of `node`, that is not legal.

    null is, wherever its type lets it be.
    """
    types = typing.get_type_hints(schema)
    for key, value in node.items():
        legal = legal_values(schema).get(key)
        if legal is not None and value is not None and value not in legal:
            written = override_value(value).removesuffix(".0")
            null = ", or null" if type(None) in typing.get_args(types[key]) else ""
            raise UserError(f"{place}{key}={written}: {legal.advice(value)}{null}")
        if isinstance(value, Mapping):
            inner = data_schema.SCHEMAS.get(value.get("name", "")) if key == "data" else types.get(key)
            if dataclasses.is_dataclass(inner) and isinstance(inner, type):
                refuse_illegal(value, inner, f"{place}{key}.")


def legal_values(schema: type) -> dict[str, Legal]:
    """Those of the options of `schema`, with those that it inherits."""
    return {key: legal for base in reversed(schema.__mro__) for key, legal in LEGAL.get(base, {}).items()}
