"""Attention with queries and keys of an odd width."""

from torch import Tensor, nn

from attnframe import Attention, Mask, merge_heads, register_attention, split_heads
from outside_attention.widths import width_of


@register_attention("outside")
class Outside(Attention):
    """softmax(QKᵀ/√(2·rank+1))V: queries and keys of width 2·rank+1 in each head."""

    cacheable = True

    def __init__(self, d_model: int, num_heads: int, *, rank: int = 3) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, num_heads * width_of(rank))
        self.key_proj = nn.Linear(d_model, num_heads * width_of(rank))
        self.value_proj = nn.Linear(d_model, d_model)
        self.output_proj = nn.Linear(d_model, d_model)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        v = split_heads(self.value_proj(value), self.num_heads)
        return self.output_proj(merge_heads(self.attend(q, k, v, mask)))
