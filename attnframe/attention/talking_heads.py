"""Attention whose heads see each other's scores and weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.functional import masked_softmax, merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.attention.observing import PatternKind
from attnframe.registry import register_attention


@register_attention("talking_heads")
class TalkingHeads(Attention):
    """Concat_h(Σ_g P_w[h,g]·softmax(Σ_f P_l[g,f]·Q_f·K_fᵀ/√d_k)·V_h)·W_O: heads mix before and after the softmax.

    Reference: Shazeer et al. 2020, section 4, https://arxiv.org/abs/2003.02436. Our `score_mix` is their P_l and our
    `weight_mix` their P_w, each transposed; their three numbers of heads are one here. Both start as the identity, at
    which this is multi-head attention. Attention dropout acts on the weights with which values are added up, that is
    behind P_w. These may be negative, and rows of head h sum to Σ_g P_w[h,g].
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
        self.score_mix = nn.Parameter(torch.eye(num_heads))
        self.weight_mix = nn.Parameter(torch.eye(num_heads))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        v = split_heads(self.value_proj(value), self.num_heads)
        output = self.attend(q, k, v, mask, normaliser=self._mixed)
        mass = self.weight_mix.detach().double().sum(dim=1)[:, None]
        self.report_pattern(lambda weights: weights, PatternKind.SIGNED, mass=mass)
        return self.output_proj(merge_heads(output))

    def _mixed(self, scores: Tensor, keep: Tensor) -> Tensor:
        # A recording gives scores of a wider type than the module has. Hidden ones may be infinite, and the gradient of
        # score_mix would multiply by them.
        score_mix, weight_mix = self.score_mix.to(scores.dtype), self.weight_mix.to(scores.dtype)
        scores = torch.einsum("gf,bfij->bgij", score_mix, scores.masked_fill(~keep, 0.0))
        return torch.einsum("hg,bgij->bhij", weight_mix, masked_softmax(scores, keep))
