"""What a run is built from."""

from __future__ import annotations

import pytest
from torch import Tensor, nn

from attnframe import Attention, Mask, UserError, register_attention
from attnframe.model import SITES, AttentionFactory, VariantChoice
from attnframe.runs.building import try_attention


def test_a_mask_that_a_variant_refuses_at_its_site_is_found_before_anything_is_read() -> None:
    @register_attention("looks_ahead")
    class LooksAhead(Attention):
        """Mixes all keys."""

        def __init__(self, d_model: int, d_context: int | None = None) -> None:
            super().__init__()
            self.value_proj = nn.Linear(d_context or d_model, d_model)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            if mask.causal:
                raise UserError("looks_ahead cannot keep to a causal mask")
            return query + self.value_proj(value).mean(dim=1, keepdim=True)

    def factory(**sites: str) -> AttentionFactory:
        names = dict.fromkeys(SITES, "multi_head") | sites
        choices = {site: (VariantChoice("multi_head"), VariantChoice(name)) for site, name in names.items()}
        return AttentionFactory(choices, d_model=8, encoder_d_model=8, num_heads=2)

    trainer = {"accelerator": "cpu", "precision": "32-true"}
    try_attention(factory(encoder_self="looks_ahead", cross="looks_ahead"), trainer)
    with pytest.raises(UserError, match=r"^decoder_self: looks_ahead cannot keep to a causal mask$"):
        try_attention(factory(decoder_self="looks_ahead"), trainer)
