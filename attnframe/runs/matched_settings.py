"""Settings with `match` carried out: `model.d_ff` is the width that makes the model as costly as the reference's."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from attnframe import discovery
from attnframe.errors import UserError
from attnframe.model.matching import Match, match_d_ff
from attnframe.runs.building import attention_factory, encoder_of


def matched(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run, with `model.d_ff` solved and the fields of `Match` under `matched` if they ask for it.

    Settings that have `matched` already, as those of a run that is picked up again, stay as they are. Raises
    `UserError` where there is nothing to turn, and as `match_d_ff`.
    """
    if settings["match"] is None or "matched" in settings:
        return dict(settings)
    by, reference, model = settings["match"], settings["match_to"], settings["model"]
    try:
        discovery.find_variant(reference)
    except UserError as error:
        raise UserError(f"match_to={reference}: {error}") from error
    factory = attention_factory(settings)
    if model["kind"] != "seq2seq":
        raise UserError(
            f"match={by}: of a model.kind={model['kind']} only the attention is built and counted, so there is no d_ff "
            f"to turn; leave match out"
        )
    if settings["match_length"] < 1:
        raise UserError(f"match_length={settings['match_length']} must be at least 1 token")
    found = match_d_ff(
        factory,
        by=by,
        reference=reference,
        num_encoder_layers=encoder_of(model)["num_layers"],
        num_decoder_layers=model["num_layers"],
        d_ff=model["d_ff"],
        length=settings["match_length"],
    )
    return {**settings, "model": {**model, "d_ff": found.d_ff}, "matched": dataclasses.asdict(found)}


def match_of(settings: Mapping[str, Any]) -> Match | None:
    """What `matched` left in the settings of a run; None for one that was not matched."""
    return Match(**settings["matched"]) if settings.get("matched") else None
