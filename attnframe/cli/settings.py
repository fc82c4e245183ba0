"""From a composed config to plain named values; what Hydra's types cannot check is checked here."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attnframe.cli.legal_values import refuse_illegal
from attnframe.cli.train_schema import TrainSchema
from attnframe.errors import UserError, did_you_mean

DEFAULT_MAX_STEPS = 1000

STRATEGIES = ("auto", "ddp", "fsdp")

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
    refuse_illegal(plain, TrainSchema)
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
    _check_processes(trainer)
    if trainer["max_steps"] is None:
        unlimited = trainer["max_epochs"] is not None or trainer["max_time"] is not None
        return {**trainer, "max_steps": -1 if unlimited else DEFAULT_MAX_STEPS}
    return trainer


def _check_processes(trainer: dict[str, Any]) -> None:
    """Refuse devices and strategies of which no run can be made."""
    strategy, devices, machines = str(trainer["strategy"]), trainer["devices"], trainer["num_nodes"]
    if strategy not in STRATEGIES:
        raise UserError(
            f"trainer.strategy={strategy}: {did_you_mean(strategy, STRATEGIES)}; the processes of ddp and fsdp are "
            f"started anew, not spawned or forked, also in a notebook and in a sweep"
        )
    precision = str(trainer["precision"])
    if strategy == "fsdp" and precision.startswith(("64", "transformer-engine")):
        raise UserError(f"trainer.precision={precision}: fsdp computes in 32 bits, bf16 or 16 bits")
    numbers = devices if isinstance(devices, list) else [devices]
    if not numbers or not all(str(number).isdecimal() for number in numbers) or str(devices) == "0":
        raise UserError(f"trainer.devices={devices}: give how many, as 2, or the numbers of GPUs, as [0,1]")
    several = machines > 1 or len(numbers) > 1 or (not isinstance(devices, list) and int(devices) > 1)
    if strategy == "auto" and several:
        raise UserError(
            f"trainer.devices={devices} trainer.num_nodes={machines}: without a strategy a run takes one device; "
            f"choose trainer=ddp or trainer=fsdp beside them"
        )
