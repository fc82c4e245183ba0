"""The width of the feed-forward layers with which a model costs as much as one with another variant."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from attnframe.errors import UserError, did_you_mean
from attnframe.model.accounting import DEFAULT_LENGTH, count_attention, count_parts
from attnframe.model.counts import ModelCount
from attnframe.model.sites import AttentionFactory, VariantChoice

MEASURES = {"params": "parameters", "flops": "FLOPs per token"}
"""What can be matched, and what it counts."""

TOLERANCE = 0.01
"""The largest difference that is called a match, as a share of the reference's cost."""


@dataclass(frozen=True)
class Match:
    """A model made as costly as one with the variant `reference`, by `by`, a key of `MEASURES`.

    `d_ff` is the width that does it; the reference has `d_ff_before`. `ratio` is the model's cost over that of the
    reference, both without embeddings and logits; FLOPs are those of sequences of `length` tokens.
    """

    by: str
    reference: str
    length: int
    d_ff_before: int
    d_ff: int
    ratio: float

    def __str__(self) -> str:
        what = MEASURES[self.by] + (f" at length {self.length}" if self.by == "flops" else "")
        # Rounded up, for it says within; what is less than a rounding error of the ratio is none.
        difference = math.ceil(abs(self.ratio - 1) * 1e4 - 1e-9) / 100
        return f"d_ff {self.d_ff_before} -> {self.d_ff}: {what} within {difference:.2f} % of {self.reference}"


def match_d_ff(
    factory: AttentionFactory,
    *,
    by: str,
    reference: str,
    num_encoder_layers: int,
    num_decoder_layers: int,
    d_ff: int,
    length: int = DEFAULT_LENGTH,
) -> Match:
    """The width for the model of `factory`, so that it costs what one of the same sizes with `reference` does.

    That one has the variant `reference` with its default options in every layer of every site, and the width `d_ff`.
    Raises `UserError` for an unknown `by`, for a variant that cannot be counted here, and where no width comes within
    `TOLERANCE`.
    """
    if by not in MEASURES:
        raise UserError(f"match={by}: {did_you_mean(by, MEASURES)}")
    all_reference = {site: (VariantChoice(reference),) * len(layers) for site, layers in factory.choices.items()}

    own_attention = count_attention(factory, length=length)
    try:
        attention = count_attention(dataclasses.replace(factory, choices=all_reference), length=length)
    except UserError as error:
        raise UserError(f"match_to={reference}: {error}") from error

    def cost(attention: ModelCount, d_ff: int) -> float:
        parts = count_parts(
            factory,
            num_encoder_layers=num_encoder_layers,
            num_decoder_layers=num_decoder_layers,
            d_ff=d_ff,
        )
        count = dataclasses.replace(attention, parts=parts)
        return count.parameters if by == "params" else count.flops_per_token

    wanted, own = cost(attention, d_ff), cost(own_attention, d_ff)
    # Every cost is a straight line over d_ff.
    slope = cost(own_attention, d_ff + 1) - own
    nearest = max(1, d_ff + round((wanted - own) / slope))
    ratio = cost(own_attention, nearest) / wanted
    if abs(ratio - 1) > TOLERANCE:
        raise UserError(
            f"match={by}: no d_ff brings the model within {100 * TOLERANCE:.0f} % of {reference} with "
            f"model.d_ff={d_ff}: the nearest, {nearest}, makes {ratio * wanted:,.0f} {MEASURES[by]} against "
            f"{wanted:,.0f}, {100 * abs(ratio - 1):.2f} % {'more' if ratio > 1 else 'less'} (without embeddings); "
            f"raise model.d_ff, or take another match_to"
        )
    return Match(by, reference, length, d_ff, nearest, ratio)
