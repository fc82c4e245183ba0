"""Where attention sits in the model, and which variant is built there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attnframe.attention import Attention, build_attention
from attnframe.errors import UserError

SITES = ("encoder_self", "decoder_self", "cross")


@dataclass(frozen=True)
class VariantChoice:
    """A variant by name, with the options that differ from its defaults or not."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AttentionFactory:
    """Builds the attention of any site and layer: `choices` holds one variant for each layer of each site.

    `encoder_d_model` is the width of the encoder and so of what the cross site attends to.
    """

    choices: Mapping[str, Sequence[VariantChoice]]
    d_model: int
    encoder_d_model: int
    num_heads: int
    dropout: float = 0.0
    bias: bool = True
    backend: str = "auto"

    def widths(self, site: str) -> tuple[int, int]:
        """(d_model, d_context) of a site."""
        if site == "encoder_self":
            return self.encoder_d_model, self.encoder_d_model
        return self.d_model, self.encoder_d_model if site == "cross" else self.d_model

    def build(self, site: str, layer: int) -> Attention:
        """The module of `site` in `layer` (from 0). Raises `UserError` that begins with the site."""
        choice = self.choices[site][layer]
        d_model, d_context = self.widths(site)
        try:
            module = build_attention(
                choice.name,
                d_model=d_model,
                num_heads=self.num_heads,
                dropout=self.dropout,
                backend=self.backend,
                d_context=None if d_context == d_model else d_context,
                bias=self.bias,
                **choice.options,
            )
        except UserError as error:
            raise UserError(f"{site}: {error}") from error
        module.site, module.layer = site, layer
        return module
