"""Attention whose output each query lets through or holds back."""

from __future__ import annotations

from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.functional import merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.registry import register_attention


@register_attention("gated")
class Gated(Attention):
    """(Concat_h(softmax(Q_h·K_hᵀ/√d_k)·V_h) ⊙ σ(X·W_θ))·W_O: the query X gates what it has attended to.

    Reference: Qiu et al. 2025, section 2.2, https://arxiv.org/abs/2505.06708: the gate that did best there, behind the
    attention. Our `gate_proj` is their W_θ; it has a bias where the other projections have one, theirs has none. With
    `headwise` one gate is shared by all dimensions of a head.
    """

    cacheable = True

    def __init__(
        self, d_model: int, num_heads: int, d_context: int | None = None, bias: bool = True, *, headwise: bool = False
    ) -> None:
        super().__init__()
        d_context = d_model if d_context is None else d_context
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_proj = nn.Linear(d_context, d_model, bias=bias)
        self.value_proj = nn.Linear(d_context, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)
        self.gate_proj = nn.Linear(d_model, num_heads if headwise else d_model, bias=bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        v = split_heads(self.value_proj(value), self.num_heads)
        gate = split_heads(self.gate_proj(query), self.num_heads).sigmoid()
        return self.output_proj(merge_heads(self.attend(q, k, v, mask) * gate))
