"""`attnframe backends`: which backend can run which variant here, and why not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException

from attnframe.attention.capability import Capability, capabilities, devices_at_hand
from attnframe.backends import dtype_of
from attnframe.cli import composition, messages, settings
from attnframe.cli.output import print_json, print_table, split_json_flag, wants_help
from attnframe.errors import UserError
from attnframe.model import SITES
from attnframe.runs import building

USAGE = """attnframe backends [OVERRIDE ...] [--json]
        every variant, or those that are chosen, on every device of this machine with every backend: whether it runs,
        and if not why

  attnframe backends                              at the sizes of the default model
  attnframe backends model=base                   at other sizes
  attnframe backends model.attention_dropout=0.1  with dropout on the attention weights
  attnframe backends trainer.precision=bf16-mixed
  attnframe backends attention=low_rank_v attention.full_rank=true
  attnframe backends --json

runs: whether it can be trained, or `evaluation only`; `auto` marks the backend that backend=auto takes on the device
that a run takes; `own` a variant that computes its attention itself, whatever the backend.
"""


def main(arguments: list[str]) -> int:
    """Exit code 0. Raises `UserError`."""
    if wants_help(arguments):
        print(USAGE, end="")
        return 0
    overrides, as_json = split_json_flag(arguments)
    composition.prepare()
    try:
        plain = settings.plain(composition.compose_config(overrides))
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(messages.sentence(error, overrides)) from error
    model = plain["model"]
    building.check_model(model)
    chosen = _chosen(plain, overrides)
    found = capabilities(
        d_model=model["d_model"],
        num_heads=model["num_heads"],
        dropout=model["attention_dropout"],
        bias=model["bias"],
        dtype=dtype_of(plain["trainer"]["precision"]),
        options=chosen,
        variants=chosen or None,
    )
    if as_json:
        print_json([_as_json(capability) for capability in found])
    else:
        rows = [[c.variant, c.device, c.backend, _answer(c), "; ".join(c.reasons)] for c in found]
        print_table(["variant", "device", "backend", "runs", "why not"], rows)
    return 0


def _chosen(plain: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    """The options of the variants that `overrides` choose, for all sites or for one, by name; empty without any."""
    everywhere = {**plain, **dict.fromkeys(SITES), "layers": dict.fromkeys(SITES)}
    keys = {re.split(r"[=.]", item.lstrip("+"))[0] for item in overrides}
    choices = building.site_choices(everywhere, SITES[0], 1) if "attention" in keys else ()
    for site in SITES:
        of_layers = plain["layers"][site]
        if of_layers is not None or plain[site] is not None:
            choices += building.site_choices(plain, site, len(of_layers or [site]))
    return {choice.name: choice.options for choice in choices}


def _answer(capability: Capability) -> str:
    if not capability.runs:
        return "evaluation only" if capability.evaluates else "no"
    if capability.own:
        return "own"
    return "yes, auto" if _is_default(capability) else "yes"


def _is_default(capability: Capability) -> bool:
    """Whether a run that chooses nothing takes this backend for this variant."""
    return capability.auto and capability.device == devices_at_hand()[0]


def _as_json(capability: Capability) -> dict[str, Any]:
    return {
        "variant": capability.variant,
        "device": capability.device,
        "backend": capability.backend,
        "runs": capability.runs,
        "evaluates": capability.evaluates,
        "own": capability.own,
        "auto": _is_default(capability),
        "reasons": list(capability.reasons),
    }
