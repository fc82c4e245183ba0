"""Wrong on purpose: variants whose pattern is not what they say."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from attnframe import Mask, masked_softmax, merge_heads, register_attention, split_heads
from attnframe.attention.multi_head import MultiHead


@register_attention("first_key_twice")
class FirstKeyTwice(MultiHead):
    """Adds the value of the first key once more, beside attend: the order of the keys matters, and nobody says so."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        first = mask.dense().to(value.dtype)[:, 0, :, :1] * self.value_proj(value)[:, :1]
        return super().forward(query, key, value, mask) + first


@register_attention("negative_weights")
class NegativeWeights(MultiHead):
    """Twice a softmax less a mean: its rows sum to 1, but it calls probabilities what may be negative."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k, v = split_heads(self.key_proj(key), self.num_heads), split_heads(self.value_proj(value), self.num_heads)
        keep = mask.dense()
        weights = 2 * masked_softmax(q @ k.mT, keep) - masked_softmax(torch.zeros_like(q @ k.mT), keep)
        self.report_pattern(lambda: weights, "probability")
        return self.output_proj(merge_heads(weights @ v))


@register_attention("other_pattern")
class OtherPattern(MultiHead):
    """Reports the pattern of the standard scale, and scales by d_model in the place of head_dim."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k, v = split_heads(self.key_proj(key), self.num_heads), split_heads(self.value_proj(value), self.num_heads)
        scores = q @ k.mT
        hidden = ~mask.dense()
        used, said = (
            (scores / width**0.5).masked_fill(hidden, -1e9).softmax(-1).masked_fill(hidden, 0.0)
            for width in (query.shape[-1], q.shape[-1])
        )
        self.report_pattern(lambda: said, "probability")
        return self.output_proj(merge_heads(used @ v))


@register_attention("other_mass")
class OtherMass(MultiHead):
    """Halves its weights and calls them probabilities."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        self.report_pattern(lambda weights: weights / 2, "probability")
        return super().attend(q, k, v, mask, **how) / 2


@register_attention("weights_on_hidden_keys")
class WeightsOnHiddenKeys(MultiHead):
    """Reports weights for keys that it does not look at."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        self.report_pattern(lambda weights: torch.full_like(weights, 1 / weights.shape[-1]), "probability")
        return super().attend(q, k, v, mask, **how)


@register_attention("narrow_mass")
class NarrowMass(MultiHead):
    """Says what its rows sum to from a sum in the type of the embeddings, which in half precision is another."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k, v = split_heads(self.key_proj(key), self.num_heads), split_heads(self.value_proj(value), self.num_heads)
        output = self.attend(q, k, v, mask)
        share = q[..., 0].sigmoid() / 3
        wide = q[..., 0].to(torch.promote_types(q.dtype, torch.float32)).sigmoid() / 3
        self.report_pattern(lambda weights: weights * wide[..., None], "unnormalised", mass=share)
        return self.output_proj(merge_heads(output * share[..., None]))
