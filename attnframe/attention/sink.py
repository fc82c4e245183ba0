"""Attention that may decline to attend."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnframe.attention.base import Attention
from attnframe.attention.functional import masked_softmax, merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.attention.observing import PatternKind
from attnframe.registry import register_attention


@register_attention("sink")
class Sink(Attention):
    """Concat_h(exp(S_h)/(exp(z_h) + Σexp(S_h))·V_h)·W_O with S_h = Q_h·K_hᵀ/√d_k: the logit z_h takes mass for nothing.

    Reference: OpenAI 2025, section 2.2, https://arxiv.org/abs/2508.10925, learns z_h, one number for each head; so does
    this, from 0. With `learned` false z_h stays 0, the softmax that is off by one of Miller 2023,
    https://www.evanmiller.org/attention-is-off-by-one.html. The name is from Xiao et al. 2023, section 3.1,
    https://arxiv.org/abs/2309.17453: a softmax that has nothing to attend to attends to the first tokens.
    """

    cacheable = True

    def __init__(
        self, d_model: int, num_heads: int, d_context: int | None = None, bias: bool = True, *, learned: bool = True
    ) -> None:
        super().__init__()
        d_context = d_model if d_context is None else d_context
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_proj = nn.Linear(d_context, d_model, bias=bias)
        self.value_proj = nn.Linear(d_context, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)
        self.sink = nn.Parameter(torch.zeros(num_heads)) if learned else None

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        v = split_heads(self.value_proj(value), self.num_heads)
        output = self.attend(q, k, v, mask, normaliser=self._beside_the_sink)
        self.report_pattern(lambda weights: weights, PatternKind.UNNORMALISED)
        return self.output_proj(merge_heads(output))

    def _beside_the_sink(self, scores: Tensor, keep: Tensor) -> Tensor:
        """The softmax over the keys and the sink, which is no key: its weight is left out."""
        sink = scores.new_zeros(()) if self.sink is None else self.sink.to(scores.dtype)[:, None, None]
        scores = torch.cat([scores, sink.expand(*scores.shape[:-1], 1)], dim=-1)
        return masked_softmax(scores, F.pad(keep, (0, 1), value=True))[..., :-1]
