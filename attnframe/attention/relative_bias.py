"""Attention with a learned bias for each distance between query and key, as in T5."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.functional import merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.errors import UserError
from attnframe.registry import register_attention

if TYPE_CHECKING:
    from jaxtyping import Int


@register_attention("relative_bias")
class RelativeBias(Attention):
    """softmax(Q_h·K_hᵀ/√d_k + b_h(bucket(j - i)))·V_h·W_O: each head learns a bias for each bucket of distances.

    Reference: Raffel et al. 2020, section 2.1, https://arxiv.org/abs/1910.10683. Near distances have a bucket each,
    farther ones share buckets that grow logarithmically up to `max_distance`, and all beyond share the last. Half of
    the `num_buckets` are for keys behind the query; under a causal mask all are for those before it. Our 1/√d_k is not
    in T5, and each layer has a table of its own where T5 has one for all layers of a stack. Biases start at 0. T5
    has none between two sequences; here i and j count from the start of each.
    """

    cacheable = True

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_context: int | None = None,
        bias: bool = True,
        *,
        num_buckets: int = 32,
        max_distance: int = 128,
    ) -> None:
        super().__init__()
        if num_buckets < 4 or num_buckets % 2:
            raise UserError(f"num_buckets={num_buckets} must be even and at least 4: two for each side of the query")
        if max_distance <= num_buckets // 2:
            raise UserError(
                f"max_distance={max_distance} must be above {num_buckets // 2}, for of num_buckets={num_buckets} half "
                f"stand for one distance each"
            )
        d_context = d_model if d_context is None else d_context
        self.num_heads = num_heads
        self.num_buckets = num_buckets
        self.max_distance = max_distance
        self.bucket_bias = nn.Parameter(torch.zeros(num_buckets, num_heads))
        self.query_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_proj = nn.Linear(d_context, d_model, bias=bias)
        self.value_proj = nn.Linear(d_context, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        v = split_heads(self.value_proj(value), self.num_heads)
        score_mod = partial(self._biased, mask.causal)
        return self.output_proj(merge_heads(self.attend(q, k, v, mask, score_mod=score_mod)))

    def _biased(
        self, causal: bool, score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor
    ) -> Tensor:
        return score + self.bucket_bias[self._bucket(kv_idx - q_idx, causal), head]

    def _bucket(self, offset: Int[Tensor, "*grid"], causal: bool) -> Int[Tensor, "*grid"]:
        """The bucket of a key `offset` tokens behind its query. Under a causal mask those behind it count as at it."""
        buckets = self.num_buckets if causal else self.num_buckets // 2
        distance = (-offset).clamp(min=0) if causal else offset.abs()
        exact = buckets // 2
        share = (distance.clamp(min=1).float() / exact).log() / math.log(self.max_distance / exact)
        far = (exact + (share * (buckets - exact)).long()).clamp(max=buckets - 1)
        bucket = torch.where(distance < exact, distance, far)
        return bucket if causal else bucket + buckets * (offset > 0)
