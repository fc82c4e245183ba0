"""What one layer of a variant costs, at each site where attention is over the sequence itself."""

from __future__ import annotations

from dataclasses import dataclass

from attnframe.catalogue.content import Sizes
from attnframe.errors import UserError
from attnframe.model import AttentionFactory, VariantChoice
from attnframe.model.accounting import count_attention


@dataclass(frozen=True)
class Cost:
    """One layer's, as `attnframe.model.counts.SiteCount` has it; `cache_per_token` None means recomputed."""

    parameters: int
    flops_per_token: float
    cache_per_token: int | None


def costs(name: str, sizes: Sizes) -> dict[str, Cost | str]:
    """By site the cost of the variant `name` with its defaults, or the sentence with which it cannot be counted."""
    return {site: _cost(name, site, sizes) for site in sizes.sites}


def _cost(name: str, site: str, sizes: Sizes) -> Cost | str:
    factory = AttentionFactory(
        choices={site: (VariantChoice(name),)},
        d_model=sizes.d_model,
        encoder_d_model=sizes.encoder_d_model,
        num_heads=sizes.num_heads,
        bias=sizes.bias,
    )
    try:
        (count,) = count_attention(factory, length=sizes.length).sites
    except UserError as refusal:
        return str(refusal)
    return Cost(count.layer_parameters, count.flops_per_token, count.layer_cache)
