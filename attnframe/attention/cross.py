"""Cross-attention: keys and values from another sequence."""

from __future__ import annotations

from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.functional import merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.registry import register_attention


@register_attention("cross")
class Cross(Attention):
    """Concat_h(softmax(Q_h·K_hᵀ/√d_k)·V_h)·W_O with Q = X·W_Q, K = C·W_K, V = C·W_V of another sequence C.

    Reference: Vaswani et al. 2017, section 3.2.3 ("encoder-decoder attention"), https://arxiv.org/abs/1706.03762.
    Our `d_context` is the width of C, which may differ from `d_model`. The note writes (Q_eng·K_fr)·V_eng: keys *and*
    values have to come from the other sequence (there K_fr and V_fr; in our task, English to French, the English one),
    for a row has one weight for each key, and each weighs one value. Where both sequences are the same this is
    multi-head self-attention.
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
        return self.output_proj(merge_heads(self.attend(q, k, v, mask)))
