"""What stands on the command line of `attnframe bench`, as the lines that are to be measured."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attnframe.backends import backends
from attnframe.bench import Line
from attnframe.cli import composition, messages, run_arguments, settings
from attnframe.cli.command_schema import BenchSchema
from attnframe.cli.legal_values import refuse_illegal
from attnframe.errors import UserError
from attnframe.runs import building

# What may have several values, a line each.
_VARIED = ("attention", "backend", "model", "model.d_model", "model.num_heads")
_VARIED_SETTINGS = ("bench.causal", "bench.batch", "bench.tokens")
_LISTS = ("bench.timed", "bench.lengths", "bench.dtypes")


@dataclass(frozen=True)
class Asked:
    """The lines, where they are measured, and the settings that are the same for all of them."""

    lines: tuple[Line, ...]
    device: torch.device
    rounds: int
    warm_up: int
    backward: bool
    seed: int


def asked(overrides: Sequence[str]) -> Asked:
    """The lines of every combination of the values in `overrides`. Raises `UserError`."""
    try:
        parsed = _parsed(overrides)
    except HydraException as error:
        raise UserError(messages.sentence(error, list(overrides), "bench")) from error
    _refuse_choices_for_all(parsed)
    given = {override.key_or_group for override in parsed}
    values = [
        [f"{override.get_key_element()}={value}" for value in override.sweep_string_iterator()]
        if override.is_sweep_override()
        else [override.input_line or ""]
        for override in parsed
    ]
    composed = [_composed(list(combination)) for combination in itertools.product(*values)]
    first = composed[0]
    device = run_arguments.device(first["device"])
    lines = [
        line
        for config in composed
        for backend in ([config["backend"]["name"]] if "backend" in given else _default_backends(device))
        for line in _lines(config, backend)
    ]
    # In the order of what is timed and in what, so that lines which are compared are neighbours in each round.
    lines.sort(key=lambda line: (first["bench"]["timed"].index(line.timed), first["bench"]["dtypes"].index(line.dtype)))
    settings_of_all = {name: first["bench"][name] for name in ("rounds", "warm_up", "backward")}
    return Asked(tuple(lines), device, seed=first["seed"], **settings_of_all)


def _parsed(overrides: Sequence[str]) -> list[Override]:
    GlobalHydra.instance().clear()
    # Started, for only then it knows the names that a glob stands for.
    with initialize_config_dir(str(composition.conf_folder()), version_base=composition.VERSION_BASE):
        parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
        return parser.parse_overrides(list(overrides))


def _refuse_choices_for_all(parsed: Sequence[Override]) -> None:
    for override in parsed:
        key = override.key_or_group
        if not override.is_sweep_override():
            continue
        if key in _LISTS:
            listed = (override.input_line or "").partition("=")[2]
            raise UserError(f"{override.input_line}: this is a list, in brackets: {key}=[{listed}]")
        if key not in (*_VARIED, *_VARIED_SETTINGS) and not key.startswith("attention."):
            raise UserError(f"{override.input_line}: {key} is the same for all lines, so it has one value")
        if not override.is_discrete_sweep():
            raise UserError(f"{override.input_line}: give the values one by one, with commas between")


def _composed(overrides: list[str]) -> dict[str, Any]:
    try:
        config = composition.compose_config(overrides, "bench")
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True, enum_to_str=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(messages.sentence(error, overrides, "bench")) from error
    assert isinstance(container, dict)
    plain = {str(key): value for key, value in container.items()}
    settings.refuse_unknown(plain, BenchSchema)
    refuse_illegal(plain, BenchSchema)
    building.check_model(plain["model"])
    for name in ("timed", "dtypes"):
        if not plain["bench"][name]:
            raise UserError(f"bench.{name} is empty: give one at least, or leave it out")
    return plain


def _default_backends(device: torch.device) -> list[str]:
    """Every one, but on a CPU none that is taken only by name: it compiles for each length anew, or does not run."""
    return [name for name, backend in backends().items() if device.type == "cuda" or not backend.only_by_name]


def _lines(config: dict[str, Any], backend: str) -> list[Line]:
    model, measured = config["model"], config["bench"]
    options = {key: value for key, value in config["attention"].items() if key != "name"}
    return [
        Line(
            config["attention"]["name"],
            backend,
            tuple(measured["lengths"]),
            model["d_model"],
            model["num_heads"],
            timed=timed,
            dtype=dtype,
            options=options,
            causal=measured["causal"],
            batch=measured["batch"],
            tokens=measured["tokens"],
            bias=model["bias"],
            dropout=model["attention_dropout"],
        )
        for timed in dict.fromkeys(measured["timed"])
        for dtype in dict.fromkeys(measured["dtypes"])
    ]
