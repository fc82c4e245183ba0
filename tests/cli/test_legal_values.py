"""Which values options may have: both ends of every range, and that nothing of ours is refused."""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from attnframe import discovery
from attnframe.cli import command_schema, composition, settings, train_schema
from attnframe.cli.data_schema import SCHEMAS
from attnframe.cli.legal_values import legal_values, refuse_illegal
from attnframe.errors import UserError
from attnframe.runs.building import check_accelerator

NAN, INF = math.nan, math.inf

# By option, what is legal and what is not: the values at each end and beside it.
TRAIN: dict[str, tuple[list[Any], list[Any]]] = {
    "seed": ([0, 2**32 - 1], [-1, 2**32]),
    "optimizer.name": (["adamw"], ["adam"]),
    "optimizer.lr": ([0.0, 1e30], [-1e-9, NAN, INF]),
    "optimizer.betas": ([[0.0, 0.999]], [[-0.1, 0.9], [0.9, 1.0], [0.9, NAN], [0.9], [0.9, 0.9, 0.9]]),
    "optimizer.eps": ([1e-300, 1.0], [0.0, -1e-9, NAN, INF]),
    "optimizer.weight_decay": ([0.0, 7.0], [-1e-9, NAN, INF]),
    "optimizer.label_smoothing": ([0.0, 0.999], [-1e-9, 1.0, 2.0, NAN]),
    "scheduler.name": (["warmup_cosine", "inverse_square_root"], ["cosine"]),
    "scheduler.warmup_steps": ([0, 10**9], [-1]),
    "scheduler.final_ratio": ([0.0, 1.0], [-0.01, 1.01, NAN]),
    "trainer.accelerator": (["auto", "cpu", "gpu", "cuda", "mps", "tpu"], ["gpuu", "GPU", ""]),
    "trainer.num_nodes": ([1], [0, -1]),
    "trainer.precision": ([16, 32, 64, "64", "bf16", "bf16-mixed", "16-true", None], ["bf17", 8, True, 16.5]),
    "trainer.max_steps": ([1, -1, None], [0, -2]),
    "trainer.max_epochs": ([1, -1, None], [0, -2]),
    "trainer.min_steps": ([0, 7, None], [-1]),
    "trainer.min_epochs": ([0, 7, None], [-1]),
    "trainer.max_time": (["00:00:10:00", None], [5, "ten minutes", "0:00:10:00"]),
    "trainer.val_check_interval": (
        [1, 1000, 0.01, 1.0, 2.0, "00:00:10:00", None],
        [0, -1, 0.0, -0.5, 1.5, NAN, INF, True, "often"],
    ),
    "trainer.check_val_every_n_epoch": ([1, None], [0, -1]),
    "trainer.limit_train_batches": ([1, 0.01, 1.0, 2.0, None], [0, -1, 0.0, 1.5, NAN, INF, True, "few"]),
    "trainer.limit_val_batches": ([1, 1.0, None], [0, 1.5]),
    "trainer.limit_test_batches": ([1, 1.0, None], [0, 1.5]),
    "trainer.accumulate_grad_batches": ([1, 8], [0, -1]),
    "trainer.gradient_clip_val": ([0.0, 1.0, INF, None], [-0.1, NAN, -INF]),
    "trainer.gradient_clip_algorithm": (["norm", "value", None], ["nrom"]),
    "trainer.log_every_n_steps": ([0, 50], [-1]),
    "trainer.num_sanity_val_steps": ([-1, 0, 2], [-2]),
    "trainer.deterministic": ([True, False, "warn", None], ["wran", 2]),
    "trainer.profiler": (["simple", "advanced", "pytorch", "xla", None], ["smiple"]),
    "callbacks.early_stopping.patience": ([0, 3, None], [-1]),
    "callbacks.early_stopping.monitor": (["val/loss", "val/bleu"], ["val/bluu", "train/loss"]),
    "callbacks.patterns.sentences": ([0, 3], [-1]),
    "callbacks.patterns.max_snapshots": ([0, 3], [-1]),
    "callbacks.patterns.statistics": ([0, 3], [-1]),
}
EVERY_SOURCE: dict[str, tuple[list[Any], list[Any]]] = {
    "tokenizer": (["word", "bpe"], ["wrod"]),
    "normalization": (["NFC", "NFKC", None], ["NFD"]),
    "min_count": ([1], [0]),
    "vocab_size": ([4, None], [3, -1]),
    "max_tokens": ([1], [0]),
    "eval_max_tokens": ([1], [0]),
}
FILE: dict[str, tuple[list[Any], list[Any]]] = {
    **dict.fromkeys(("val_size", "test_size", "max_length"), ([1, None], [0, -1])),
    "bad_lines": (["error", "skip"], ["ignore"]),
}
SOURCES: dict[str, dict[str, tuple[list[Any], list[Any]]]] = {
    "grammar": {
        **EVERY_SOURCE,
        **dict.fromkeys(("train_size", "val_size", "test_size", "held_out_size"), ([1, 10**6], [0, 10**6 + 1])),
        "max_length": ([6, 20], [5, 21]),
        "longer_max_length": ([7], [6]),
    },
    "tatoeba": {**EVERY_SOURCE, **FILE},
    "parallel_file": {**EVERY_SOURCE, **FILE, "use": (["split", "test"], ["train"])},
}
COMMANDS: dict[type, dict[str, tuple[list[Any], list[Any]]]] = {
    command_schema.EvalSchema: {"max_tokens": ([1, None], [0])},
    command_schema.AblateSchema: {"sentences": ([1], [0]), "max_tokens": ([1, None], [0])},
    command_schema.BenchSchema: {
        "seed": ([0, 2**32 - 1], [-1, 2**32]),
        "bench.batch": ([1], [0]),
        "bench.tokens": ([1, None], [0]),
        "bench.rounds": ([1], [0]),
        "bench.warm_up": ([0], [-1]),
    },
}

# What refuses these values, before a run too, is what they act on; of `data.seed` every value is legal.
CHECKED_ELSEWHERE = {
    *("match", "match_to", "match_length", "model", "layers", "decoding", "trainer.strategy", "trainer.devices"),
    *("optimizer.entropy_weight", "optimizer.z_loss_weight", "callbacks.max_score.threshold", "data.seed"),
    *("bench.lengths", "bench.timed", "bench.dtypes", "device", "checkpoint", "mode", "set"),
}
NO_CHOICE = {
    *("name", "sweep", "run", "data.name", "data.url", "data.path", "data.source_path", "data.target_path"),
    *("data.alignment_path", "data.languages", "data", "attention", "encoder_self", "decoder_self", "cross"),
    *("backend", "logger"),
}


@pytest.fixture(scope="module", autouse=True)
def _prepared() -> None:
    with pytest.MonkeyPatch.context() as patch:
        # What is loaded for a module is not forgotten after a test.
        patch.setenv(discovery.FOLDERS_VARIABLE, "")
        composition.prepare()


@pytest.fixture(scope="module")
def stock() -> DictConfig:
    return composition.compose_config([])


def cases(table: dict[str, tuple[list[Any], list[Any]]]) -> list[tuple[str, Any, bool]]:
    return [
        (key, value, legal)
        for key, ends in table.items()
        for legal, values in zip((True, False), ends, strict=True)
        for value in values
    ]


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    assert isinstance(value, dict)
    return value


@pytest.mark.parametrize(("key", "value", "is_legal"), cases(TRAIN))
def test_an_option_of_a_run(stock: DictConfig, key: str, value: Any, is_legal: bool) -> None:
    config = OmegaConf.merge(stock, nested(key, value))
    assert isinstance(config, DictConfig)
    if is_legal:
        settings.plain(config)
        return
    with pytest.raises(UserError) as caught:
        settings.plain(config)
    assert str(caught.value).startswith(f"{key}=")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "key", "value", "is_legal"),
    [(source, *case) for source, table in SOURCES.items() for case in cases(table)],
)
def test_an_option_of_the_data(source: str, key: str, value: Any, is_legal: bool) -> None:
    node = {"data": {"name": source, key: value}}
    for schema in (train_schema.TrainSchema, command_schema.EvalSchema, command_schema.AblateSchema):
        if is_legal:
            refuse_illegal(node, schema)
        else:
            with pytest.raises(UserError, match=f"^data.{key}="):
                refuse_illegal(node, schema)


@pytest.mark.parametrize(
    ("schema", "key", "value", "is_legal"),
    [(schema, *case) for schema, table in COMMANDS.items() for case in cases(table)],
)
def test_an_option_of_another_command(schema: type, key: str, value: Any, is_legal: bool) -> None:
    if is_legal:
        refuse_illegal(nested(key, value), schema)
    else:
        with pytest.raises(UserError, match=f"^{key}="):
            refuse_illegal(nested(key, value), schema)


@pytest.mark.parametrize("group", ["data", "model", "optimizer", "scheduler", "trainer", "callbacks", "decoding"])
def test_what_we_ship_is_legal(group: str) -> None:
    for name in composition.choices(group):
        settings.plain(composition.compose_config([f"{group}={name}"]))


@pytest.mark.parametrize("group", ["experiment", "debug"])
def test_our_recipes_are_legal(group: str) -> None:
    names = composition.choices(group)
    assert names
    for name in names:
        settings.plain(composition.compose_config([f"{group}={name}"]))


def test_the_stock_configs_of_the_other_commands_are_legal() -> None:
    for primary, schema in (
        ("eval", command_schema.EvalSchema),
        ("ablate", command_schema.AblateSchema),
        ("bench", command_schema.BenchSchema),
    ):
        config = composition.compose_config([] if primary == "bench" else ["run=x"], primary)
        container = OmegaConf.to_container(config, resolve=True)
        assert isinstance(container, dict)
        refuse_illegal({str(key): value for key, value in container.items()}, schema)


def options(schema: type, place: str = "") -> Iterator[tuple[str, str, type]]:
    """(what a user calls it, its name in its schema, the schema) of each option, those of every data source too."""
    for name, hint in typing.get_type_hints(schema).items():
        if dataclasses.is_dataclass(hint) and isinstance(hint, type) and name not in CHECKED_ELSEWHERE:
            yield from options(hint, f"{place}{name}.")
        else:
            yield f"{place}{name}", name, schema
        if name == "data":
            for source in SCHEMAS.values():
                yield from options(source, "data.")


@pytest.mark.parametrize(
    "schema",
    [
        train_schema.TrainSchema,
        command_schema.TranslateSchema,
        command_schema.ExplainSchema,
        command_schema.EvalSchema,
        command_schema.AblateSchema,
        command_schema.BenchSchema,
    ],
)
def test_no_number_and_no_word_is_left_out(schema: type) -> None:
    for key, name, owner in options(schema):
        is_choice = typing.get_type_hints(owner)[name] not in (bool, bool | None)
        if is_choice and key not in CHECKED_ELSEWHERE | NO_CHOICE:
            assert name in legal_values(owner), key


def test_every_range_is_tried() -> None:
    tried = {*TRAIN, *(f"data.{key}" for table in SOURCES.values() for key in table)}
    tried |= {key for table in COMMANDS.values() for key in table}
    for schema in (train_schema.TrainSchema, *COMMANDS):
        assert {key for key, name, owner in options(schema) if name in legal_values(owner)} <= tried


@pytest.mark.parametrize("name", ["gpu", "cuda", "mps"])
def test_a_gpu_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"^trainer.accelerator={name}: .* on this machine"):
        check_accelerator(name)
    check_accelerator("auto")
    check_accelerator("cpu")
    monkeypatch.setattr(torch.cuda if name == "cuda" else torch.backends.mps, "is_available", lambda: True)
    check_accelerator(name)
    check_accelerator("gpu")
