"""The arguments of commands that use a finished run: `DIR` or `run=DIR`, overrides, flags and sentences."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attnframe.cli import composition, messages, settings
from attnframe.cli.legal_values import refuse_illegal
from attnframe.errors import UserError, did_you_mean

_OVERRIDE = re.compile(r"[+~]*[A-Za-z_][\w./@]*=", re.DOTALL)


@dataclass(frozen=True)
class RunArguments:
    """What stands on the command line, sorted. `flags` maps each flag that was given to its value, or to ""."""

    run: str
    overrides: list[str]
    flags: dict[str, str]
    sentences: list[str] = field(default_factory=list)


def parse(arguments: Sequence[str], *, flags: dict[str, str | None], takes_sentences: bool) -> RunArguments:
    """Sort `arguments`: everything after ``--``, and what is neither a flag nor ``word=...``, is a sentence.

    `flags` are the known ones, each with the name of its value or None. Without ``run=`` the first bare word is the
    run's folder. Raises `UserError` for an unknown flag, a flag without its value, a value that a flag does not take,
    and a missing run.
    """
    before = list(arguments[: arguments.index("--")] if "--" in arguments else arguments)
    after = list(arguments[len(before) + 1 :])
    given: dict[str, str] = {}
    overrides: list[str] = []
    bare: list[str] = []
    while before:
        item = before.pop(0)
        name, is_joined, value = item.partition("=")
        if name in flags:
            value_name = flags[name]
            if value_name is None and is_joined:
                raise UserError(f"{item}: {name} takes no value")
            if value_name is not None and not is_joined:
                if not before:
                    raise UserError(f"{name} needs its {value_name}: {name} {value_name}")
                value = before.pop(0)
            given[name] = value
        elif item.startswith("-") and item != "-":
            hint = "; a sentence that begins with - goes after --" if takes_sentences else ""
            raise UserError(f"{item}: there is no such flag; {did_you_mean(item, [*flags, '-h'])}{hint}")
        else:
            (overrides if _OVERRIDE.match(item) else bare).append(item)
    folders = [item.partition("=")[2] for item in overrides if item.startswith("run=")]
    if not folders:
        if not bare:
            raise UserError("which run? Give its folder: run=outputs/<name>/<time>")
        # A Path would raise for what is too long to be a name.
        is_folder = os.path.isdir(bare[0])  # noqa: PTH112
        if takes_sentences and not is_folder and (" " in bare[0] or len(bare) + len(after) == 1):
            raise UserError(f"which run? There is no folder {shown(bare[0])}: give run=outputs/<name>/<time>")
        folders = [bare.pop(0)]
    if bare and not takes_sentences:
        raise UserError(f"{bare[0]}: this is neither KEY=VALUE nor a flag, and the run is {folders[-1]} already")
    return RunArguments(
        folders[-1], [item for item in overrides if not item.startswith("run=")], given, [*bare, *after]
    )


def shown(value: str) -> str:
    """A value of the command line in quotes, as much of it as a sentence has room for."""
    return repr(value if len(value) <= 60 else f"{value[:60]}…")


def compose(arguments: RunArguments, primary: str, schema: type) -> dict[str, Any]:
    """The config `primary` with the overrides, as plain values. Raises `UserError`."""
    try:
        # In quotes, for a path may hold what Hydra's grammar gives a meaning.
        run = "run='" + arguments.run.replace("\\", "\\\\").replace("'", "\\'") + "'"
        config = composition.compose_config([*arguments.overrides, run], primary)
        container = OmegaConf.to_container(config, resolve=True, throw_on_missing=True, enum_to_str=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(messages.sentence(error, arguments.overrides, primary)) from error
    assert isinstance(container, dict)
    plain = {str(key): value for key, value in container.items()}
    settings.refuse_unknown(plain, schema)
    refuse_illegal(plain, schema)
    return plain


def device(name: str) -> torch.device:
    """The device called `name`; "auto" is CUDA where there is one. Raises `UserError`."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(name)
    except RuntimeError:
        chosen = None
    if chosen is None or chosen.type not in ("cpu", "cuda"):
        raise UserError(f"device={name}: {did_you_mean(name, ['auto', 'cpu', 'cuda'])}")
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device={name}: torch finds no CUDA device on this machine")
    return chosen
