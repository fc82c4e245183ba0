"""One attention head."""

from __future__ import annotations

from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.mask import Mask
from attnframe.errors import UserError
from attnframe.registry import register_attention


@register_attention("self")
class SelfAttention(Attention):
    """softmax(Q·Kᵀ/√d_k)·V·W_O with a single head: the note's self-attention head.

    Reference: Vaswani et al. 2017, section 3.2.1, https://arxiv.org/abs/1706.03762. Our `head_dim` is their d_k = d_v
    and the 128 of the note's Q and K, "smaller than E"; null means d_model. The note's V, as large as E but of low
    rank, is `value_proj` followed by `output_proj`, of rank at most `head_dim`.
    """

    cacheable = True

    def __init__(self, d_model: int, bias: bool = True, *, head_dim: int | None = None) -> None:
        super().__init__()
        head_dim = d_model if head_dim is None else head_dim
        if head_dim < 1:
            raise UserError(f"head_dim={head_dim} must be at least 1 (null means d_model={d_model})")
        self.query_proj = nn.Linear(d_model, head_dim, bias=bias)
        self.key_proj = nn.Linear(d_model, head_dim, bias=bias)
        self.value_proj = nn.Linear(d_model, head_dim, bias=bias)
        self.output_proj = nn.Linear(head_dim, d_model, bias=bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = self.query_proj(query).unsqueeze(1)  # [batch, 1 head, query, head_dim]
        k = self.key_proj(key).unsqueeze(1)
        v = self.value_proj(value).unsqueeze(1)
        return self.output_proj(self.attend(q, k, v, mask).squeeze(1))
