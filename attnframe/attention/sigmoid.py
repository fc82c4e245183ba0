"""Attention that decides on each key by itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.functional import merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.attention.observing import PatternKind
from attnframe.registry import register_attention


@register_attention("sigmoid")
class Sigmoid(Attention):
    """Concat_h(σ(Q_h·K_hᵀ/√d_k - ln n)·V_h)·W_O: each key weighs by its own score; n keys may be attended to.

    Reference: Ramapuram et al. 2024, section 2, https://arxiv.org/abs/2409.04431. Their bias b = -ln n has the length
    of the sequence as n, one number for all queries of a model. Here n is the number of keys that the query may attend
    to: the same where a query sees the whole sequence, and under a causal mask the length of the sequence that ends
    with it. So padding and cached decoding change nothing, and each row starts with a mass near n·σ(-ln n) = n/(n + 1).
    What they add around it (norms, LayerScale, ALiBi) is not part of this variant.
    """

    cacheable = True

    def __init__(self, d_model: int, num_heads: int, d_context: int | None = None, bias: bool = True) -> None:
        super().__init__()
        d_context = d_model if d_context is None else d_context
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_proj = nn.Linear(d_context, d_model, bias=bias)
        self.value_proj = nn.Linear(d_context, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        v = split_heads(self.value_proj(value), self.num_heads)
        output = self.attend(q, k, v, mask, normaliser=_each_by_itself)
        self.report_pattern(lambda weights: weights, PatternKind.UNNORMALISED)
        return self.output_proj(merge_heads(output))


def _each_by_itself(scores: Tensor, keep: Tensor) -> Tensor:
    # In fp32 or better: half precision counts to 2048, and overflows at 65504.
    n = keep.sum(dim=-1, keepdim=True).to(torch.promote_types(scores.dtype, torch.float32))
    return torch.sigmoid(scores - n.clamp(min=1.0).log())
