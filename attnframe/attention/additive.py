"""Additive attention: a small network scores each query and key."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnframe.attention.base import Attention
from attnframe.attention.functional import divide_into_heads, masked_softmax, merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.attention.observing import PatternKind
from attnframe.errors import UserError
from attnframe.registry import register_attention


@register_attention("additive")
class Additive(Attention):
    """softmax_j(w_hᵀ·tanh(W_h·x_i + U_h·y_j))·V_h·W_O: a layer of hidden units scores each query and key.

    Reference: Bahdanau et al. 2015, appendix A.1.2, https://arxiv.org/abs/1409.0473. Our `query_proj`, `key_proj` and
    `score` are their W_a, U_a and v_a, `hidden` (null means head_dim) is their n', in each head. Their query is the
    decoder's last state and their values are the annotations themselves; here there are several heads, and values and
    output are projected as in all variants. The hidden units have a bias, which they leave out: that of `query_proj`.
    Weights start as torch's linear layers do, not as theirs. Counted FLOPs are those of matrix products, as everywhere,
    and so without the tanh of each hidden unit, which costs more than they do.

    Its scores are no product of q and k, so it computes its attention itself, on every backend, and holds a tensor
    [batch, heads, query, key, hidden].
    """

    cacheable = True

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_context: int | None = None,
        bias: bool = True,
        *,
        hidden: int | None = None,
    ) -> None:
        super().__init__()
        d_context = d_model if d_context is None else d_context
        head_dim = divide_into_heads(d_model, num_heads)
        hidden = head_dim if hidden is None else hidden
        if hidden < 1:
            raise UserError(f"hidden={hidden} must be at least 1 unit for each head (null means head_dim={head_dim})")
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, num_heads * hidden, bias=bias)
        self.key_proj = nn.Linear(d_context, num_heads * hidden, bias=False)
        self.score = nn.Parameter(torch.empty(num_heads, hidden).uniform_(-(hidden**-0.5), hidden**-0.5))
        self.value_proj = nn.Linear(d_context, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = self.cached("keys", split_heads(self.key_proj(key), self.num_heads))
        v = self.cached("values", split_heads(self.value_proj(value), self.num_heads))
        units = torch.tanh(q[:, :, :, None] + k[:, :, None])
        scores = torch.einsum("bhqku,hu->bhqk", units, self.score)
        weights = masked_softmax(scores, mask.dense())
        self.report_pattern(lambda: weights, PatternKind.PROBABILITY)
        dropped = F.dropout(weights, self.attention_dropout, self.training)
        return self.output_proj(merge_heads(dropped @ v))
