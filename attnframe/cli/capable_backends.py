"""Which backends can run each choice of `attention=`, at the sizes of the default model or of another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from attnframe import registry
from attnframe.attention.capability import capabilities, devices_at_hand
from attnframe.cli import composition, messages, settings
from attnframe.errors import UserError


def backends_that_run(names: Sequence[str], overrides: Sequence[str] = ()) -> dict[str, list[str]]:
    """For each variant or preset the backends without a reason against it on the device that a run takes.

    In the order in which `auto` tries them. A variant that computes its attention itself runs whatever the backend.
    `overrides` change the sizes of the model. Raises `UserError` for a preset that is none.
    """
    model = composed(overrides)["model"]
    found = {}
    for name in names:
        choice = {"name": name} if name in registry.variants() else composed([f"attention={name}"])["attention"]
        options = {key: value for key, value in choice.items() if key != "name"}
        each = capabilities(
            d_model=model["d_model"],
            num_heads=model["num_heads"],
            dropout=model["attention_dropout"],
            bias=model["bias"],
            devices=devices_at_hand()[:1],
            options={choice["name"]: options},
            variants=[choice["name"]],
        )
        found[name] = [capability.backend for capability in each if capability.runs]
    return found


def composed(overrides: Sequence[str]) -> dict[str, Any]:
    """The settings of a run with `overrides`, as plain values. Raises `UserError`."""
    given = list(overrides)
    try:
        return settings.plain(composition.compose_config(given))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(messages.sentence(error, given)) from error
