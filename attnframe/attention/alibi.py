"""Attention with linear biases: nearer keys score higher, at no parameter."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.functional import merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.backends import DistanceBias
from attnframe.errors import UserError
from attnframe.registry import register_attention


@register_attention("alibi")
class Alibi(Attention):
    """softmax(Q_h·K_hᵀ/√d_k - m_h·|i - j|)·V_h·W_O: each head h takes off m_h for every token between query and key.

    Reference: Press et al. 2022, section 3, https://arxiv.org/abs/2108.12409; there keys lie only before the query, so
    that |i - j| is their i - j. Our `slope_base` is their 8: m_h = 2^(-slope_base·h / num_heads) for h = 1, 2, ...
    Their released code has other slopes where num_heads is no power of 2; the formula here is that of the paper.
    Between two sequences i and j count from the start of each.
    """

    cacheable = True
    slopes: Tensor

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_context: int | None = None,
        bias: bool = True,
        *,
        slope_base: float = 8.0,
    ) -> None:
        super().__init__()
        if slope_base <= 0:
            raise UserError(f"slope_base={slope_base} must be above 0")
        d_context = d_model if d_context is None else d_context
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_proj = nn.Linear(d_context, d_model, bias=bias)
        self.value_proj = nn.Linear(d_context, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)
        slopes = 2.0 ** (-slope_base * torch.arange(1, num_heads + 1) / num_heads)
        self.register_buffer("slopes", slopes, persistent=False)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        v = split_heads(self.value_proj(value), self.num_heads)
        heads = self.attend(q, k, v, mask, score_mod=DistanceBias(self.slopes))
        return self.output_proj(merge_heads(heads))
