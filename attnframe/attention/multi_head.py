"""Multi-head attention."""

from __future__ import annotations

from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.functional import merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.registry import register_attention


@register_attention("multi_head")
class MultiHead(Attention):
    """Concat_h(softmax(Q_h·K_hᵀ/√d_k)·V_h)·W_O: several heads side by side, each with its own small Q, K, V.

    Reference: Vaswani et al. 2017, section 3.2.2, https://arxiv.org/abs/1706.03762. Our `head_dim` = d_model /
    num_heads is their d_k = d_v. In the note's names this is E' = E + ΔE¹ + … + ΔEⁿ: head h's ΔE is its rows of the
    concatenation times its rows of W_O, so the note's low-rank V of head h is `value_proj` followed by `output_proj`.
    """

    cacheable = True

    def __init__(self, d_model: int, num_heads: int, bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_proj = nn.Linear(d_model, d_model, bias=bias)
        self.value_proj = nn.Linear(d_model, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        v = split_heads(self.value_proj(value), self.num_heads)
        return self.output_proj(merge_heads(self.attend(q, k, v, mask)))
