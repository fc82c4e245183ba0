"""Attention between softmax and sparsemax: smooth, and exactly zero for keys that score too low."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.functional import merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.registry import register_attention


@register_attention("entmax15")
class Entmax15(Attention):
    """Concat_h(entmax₁.₅(Q_h·K_hᵀ/√d_k)·V_h)·W_O: p = max(0, s/2 - τ)² with τ such that Σp = 1, so weights can be 0.

    Reference: Peters et al. 2019, section 3, https://arxiv.org/abs/1905.05702. Of their family of α-entmax, in which
    α = 1 is the softmax and α = 2 is sparsemax, this is the one half way. τ is found exactly by sorting, as in their
    algorithm 2. Their scores are those of recurrent models, ours are scaled dot products.
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
        return self.output_proj(merge_heads(self.attend(q, k, v, mask, normaliser=_entmax15)))


def _entmax15(scores: Tensor, keep: Tensor) -> Tensor:
    s = scores.to(torch.promote_types(scores.dtype, torch.float32))
    ordered = s.masked_fill(~keep, torch.finfo(s.dtype).min).sort(dim=-1, descending=True).values
    # Weights depend on differences of scores alone, so the highest may be 0; what is 2 or more below it weighs nothing.
    highest = ordered[..., :1].detach()
    half = ((ordered - highest) / 2).clamp(min=-2.0)
    support = half.detach() >= _thresholds(half.detach())
    size = support.sum(dim=-1, keepdim=True)
    mean = half.masked_fill(~support, 0.0).sum(dim=-1, keepdim=True) / size
    spread = (half - mean).square().masked_fill(~support, 0.0).sum(dim=-1, keepdim=True)
    # Over its support Σ(half - τ)² = spread + size·(mean - τ)² is 1, with τ below the mean.
    threshold = mean - ((1 - spread) / size).sqrt()
    return ((s - highest) / 2 - threshold).clamp(min=0.0).square()


def _thresholds(ordered: Tensor) -> Tensor:
    """τ if the first key, the first two, ... were the support; without a solution the mean, which no later key reaches.

    `ordered` is [..., key], from the highest score down to the lowest.
    """
    size = torch.arange(1, ordered.shape[-1] + 1, device=ordered.device)
    mean = ordered.cumsum(dim=-1) / size
    spread = ordered.square().cumsum(dim=-1) - size * mean.square()
    return mean - ((1 - spread) / size).clamp(min=0.0).sqrt()
