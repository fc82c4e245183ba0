"""A control: attention that cannot learn where to look."""

from __future__ import annotations

from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.functional import merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.registry import register_attention


@register_attention("uniform")
class Uniform(Attention):
    """mean over the allowed keys of V, times W_O: every query attends to all keys alike, so no pattern is learned.

    Reference: Vaswani et al. 2017, section 3.2.1, https://arxiv.org/abs/1706.03762, with all scores 0. The control
    beside the other variants: what it scores needs no pattern. In the note's names, ΔE is the same for every token
    that may see the same tokens.
    """

    cacheable = True

    def __init__(self, d_model: int, num_heads: int, d_context: int | None = None, bias: bool = True) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.value_proj = nn.Linear(d_model if d_context is None else d_context, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        v = split_heads(self.value_proj(value), self.num_heads)
        # Scores of zero: the softmax is uniform over the allowed keys, on every backend.
        q = v.new_zeros(*v.shape[:2], query.shape[1], v.shape[-1])
        return self.output_proj(merge_heads(self.attend(q, v.new_zeros(v.shape), v, mask)))
