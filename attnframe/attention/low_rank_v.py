"""Attention whose value map is written as the note writes it: a low-rank map from E to ΔE in each head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.functional import divide_into_heads, merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.errors import UserError
from attnframe.registry import register_attention


@register_attention("low_rank_v")
class LowRankV(Attention):
    """Σ_h softmax(Q_h·K_hᵀ/√d_k)·X·W_down⁽ʰ⁾·W_up⁽ʰ⁾ + b: each head adds its own ΔE, through a V of rank `rank`.

    Reference: Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits",
    https://transformer-circuits.pub/2021/framework, reads W_V·W_O as this product of two thin matrices; the low-rank
    form is that of Hu et al. 2021 (LoRA), section 4.1, https://arxiv.org/abs/2106.09685. With row vectors the note's
    W_V, of shape d_model x d_model, is (W_down·W_up)ᵀ; `value_down` holds every head's W_down, `value_up` every head's
    W_up and the bias b. There is no output projection besides. `rank` null means head_dim, which makes it multi-head
    attention; `full_rank` gives each head a d_model x d_model map, `value_proj`, in the place of both.
    """

    cacheable = True

    def __init__(
        self, d_model: int, num_heads: int, bias: bool = True, *, rank: int | None = None, full_rank: bool = False
    ) -> None:
        super().__init__()
        head_dim = divide_into_heads(d_model, num_heads)
        if full_rank and rank is not None:
            raise UserError(f"full_rank=true and rank={rank} exclude each other: leave one of them out")
        rank = head_dim if rank is None else rank
        if not 1 <= rank <= d_model:
            raise UserError(f"rank={rank} must lie between 1 and d_model={d_model} (null means head_dim={head_dim})")
        self.num_heads = num_heads
        self.full_rank = full_rank
        self.query_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_proj = nn.Linear(d_model, d_model, bias=bias)
        # A value bias would only add b_V·W_up to the output bias, for the weights of a row sum to 1.
        if full_rank:
            self.value_proj = nn.Linear(d_model, num_heads * d_model, bias=False)
            self.output_bias = nn.Parameter(torch.zeros(d_model)) if bias else None
        else:
            self.value_down = nn.Linear(d_model, num_heads * rank, bias=False)
            self.value_up = nn.Linear(num_heads * rank, d_model, bias=bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        if self.full_rank:
            v = split_heads(self.value_proj(value), self.num_heads)
            delta = self.attend(q, k, v, mask).sum(dim=1)  # [batch, query, d_model], summed over the heads
            return delta if self.output_bias is None else delta + self.output_bias
        v = split_heads(self.value_down(value), self.num_heads)
        # One product with the stacked W_up is the sum over the heads of their own product.
        return self.value_up(merge_heads(self.attend(q, k, v, mask)))
