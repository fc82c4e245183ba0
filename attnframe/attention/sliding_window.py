"""Attention to what is near, and to and from a few first tokens."""

from __future__ import annotations

import dataclasses

from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.functional import merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.errors import UserError
from attnframe.registry import register_attention


@register_attention("sliding_window")
class SlidingWindow(Attention):
    """Concat_h(softmax(Q_h·K_hᵀ/√d_k where |i - j| ≤ w, or i < g, or j < g)·V_h)·W_O: near keys and g global tokens.

    Reference: Beltagy et al. 2020, section 3.1, https://arxiv.org/abs/2004.05150. Our `window` is w, half of theirs.
    `num_global` is g: the first g tokens see all and are seen by all (0 for none), as far as the mask lets them. Their
    global attention has projections of its own; here one set does it all. Between two sequences i and j count from the
    start of each, and without a global token a query far behind the last key sees nothing. With one, all scores are
    computed and those outside are masked; a cache keeps every token either way.
    """

    cacheable = True

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_context: int | None = None,
        bias: bool = True,
        *,
        window: int = 8,
        num_global: int = 1,
    ) -> None:
        super().__init__()
        if window < 0:
            raise UserError(f"window={window} must be at least 0, which leaves each query the key at its own position")
        if num_global < 0:
            raise UserError(f"num_global={num_global} must be at least 0")
        d_context = d_model if d_context is None else d_context
        self.num_heads = num_heads
        self.window = window
        self.num_global = num_global
        self.query_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_proj = nn.Linear(d_context, d_model, bias=bias)
        self.value_proj = nn.Linear(d_context, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        v = split_heads(self.value_proj(value), self.num_heads)
        if self.num_global:
            return self.output_proj(merge_heads(self.attend(q, k, v, mask, mask_mod=self._near_or_global)))
        # As structure of the mask, by which a kernel can skip what lies outside.
        window = self.window if mask.window is None else min(self.window, mask.window)
        return self.output_proj(merge_heads(self.attend(q, k, v, dataclasses.replace(mask, window=window))))

    def _near_or_global(self, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        near = (q_idx - kv_idx).abs() <= self.window
        return near | (q_idx < self.num_global) | (kv_idx < self.num_global)
