"""From a composed config to plain named values; what Hydra's types cannot check is checked here."""

from __future__ import annotations

import dataclasses
import re
import typing
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attnframe.cli.schema import TrainSchema
from attnframe.errors import UserError, did_you_mean

DEFAULT_MAX_STEPS = 1000

_TIME = re.compile(r"\d\d:\d\d:\d\d:\d\d")
_PATHS = ("path", "source_path", "target_path", "alignment_path")


def plain(config: DictConfig) -> dict[str, Any]:
    """The config with every reference resolved and `match` carried out, as nested dicts, lists and scalars.

    Raises `UserError`.
    """
    try:
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True, enum_to_str=True)
    except OmegaConfBaseException as error:
        raise UserError(str(error).partition("\n")[0]) from error
    assert isinstance(container, dict)
    plain = {str(key): value for key, value in container.items()}
    refuse_unknown(plain, TrainSchema)
    check_name("name", plain["name"])
    # Of a run's folder, not of the run.
    check_name("sweep", plain.pop("sweep"))
    plain["trainer"] = trainer_arguments(plain["trainer"])
    plain["data"] = with_absolute_paths(plain["data"])
    # Here and not above: not all that use this file need torch.
    from attnframe.runs.matched_settings import matched

    return matched(plain)


def with_absolute_paths(data: dict[str, Any]) -> dict[str, Any]:
    """The settings under `data` with files named so that the run finds them again from another folder."""
    return {
        key: str(Path(value).expanduser().absolute()) if key in _PATHS and value is not None else value
        for key, value in data.items()
    }


def refuse_unknown(node: dict[str, Any], schema: type, place: str = "") -> None:
    """Refuse keys that a `+` on the command line has brought in past Hydra's own check."""
    types = typing.get_type_hints(schema)
    for key, value in node.items():
        if key not in types:
            owner = place.rstrip(".") or "the config"
            raise UserError(f"{place}{key}: {owner} has no {key!r}: {did_you_mean(key, types)}")
        if dataclasses.is_dataclass(types[key]) and isinstance(types[key], type) and isinstance(value, dict):
            refuse_unknown(value, types[key], f"{place}{key}.")


def check_name(key: str, name: str) -> None:
    """Refuse the name of a run or a sweep that is no name of a folder."""
    if not name or name in (".", "..") or any(mark in name for mark in "/\\\0"):
        raise UserError(f"{key}={name}: it becomes a folder below outputs/, so it needs letters and no slash")


def trainer_arguments(trainer: dict[str, Any]) -> dict[str, Any]:
    """The settings under `trainer` with `max_steps` decided. Refuses what a run cannot be made of."""
    for key in ("max_steps", "max_epochs", "limit_train_batches", "limit_val_batches", "limit_test_batches"):
        if trainer[key] == 0:
            raise UserError(f"trainer.{key}=0: a run trains, validates and tests, so it must be more than 0")
    for key in ("max_steps", "max_epochs"):
        if trainer[key] is not None and trainer[key] < -1:
            raise UserError(f"trainer.{key}={trainer[key]} must be 1 or more, or -1 for no limit")
    if trainer["max_time"] is not None and not _TIME.fullmatch(str(trainer["max_time"])):
        raise UserError(f"trainer.max_time={trainer['max_time']}: write it as DD:HH:MM:SS, ten minutes as 00:00:10:00")
    several = trainer["num_nodes"] > 1 or str(trainer["strategy"]) != "auto" or trainer["devices"] not in (1, "1")
    if several:
        raise UserError(
            f"trainer.devices={trainer['devices']} trainer.num_nodes={trainer['num_nodes']} "
            f"trainer.strategy={trainer['strategy']}: a run takes one device so far (devices=1, strategy=auto)"
        )
    if trainer["max_steps"] is None:
        unlimited = trainer["max_epochs"] is not None or trainer["max_time"] is not None
        return {**trainer, "max_steps": -1 if unlimited else DEFAULT_MAX_STEPS}
    return trainer
