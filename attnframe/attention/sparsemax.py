"""Attention with weights that are exactly zero for keys that score too low."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.functional import merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.registry import register_attention


@register_attention("sparsemax")
class Sparsemax(Attention):
    """Concat_h(sparsemax(Q_h·K_hᵀ/√d_k)·V_h)·W_O: p = max(0, s - τ) with τ such that Σp = 1, so weights can be 0.

    Reference: Martins & Astudillo 2016, section 2, https://arxiv.org/abs/1602.02068. The row p is the point of the
    simplex that is nearest to the scores s; τ is found exactly by sorting, as in their algorithm 1. Their scores are
    those of additive attention, ours are scaled dot products.
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
        return self.output_proj(merge_heads(self.attend(q, k, v, mask, normaliser=_sparsemax)))


def _sparsemax(scores: Tensor, keep: Tensor) -> Tensor:
    s = scores.to(torch.promote_types(scores.dtype, torch.float32))
    ordered = s.masked_fill(~keep, torch.finfo(s.dtype).min).sort(dim=-1, descending=True).values
    # Weights depend on differences of scores alone, so the highest may be 0; what is 1 or more below it weighs nothing.
    highest = ordered[..., :1].detach()
    ordered = (ordered - highest).clamp(min=-2.0)
    rank = torch.arange(1, s.shape[-1] + 1, device=s.device)
    support = 1 + rank * ordered > ordered.cumsum(dim=-1)
    # Over its support τ is a mean of scores, through which gradients go as they should.
    threshold = (ordered.masked_fill(~support, 0.0).sum(dim=-1, keepdim=True) - 1) / support.sum(dim=-1, keepdim=True)
    return (s - highest - threshold).clamp(min=0.0)
