"""Linear attention: features of queries and keys in the place of the softmax."""

from __future__ import annotations

import enum

from torch import Tensor, nn
from torch.nn import functional as F

from attnframe.attention.base import Attention
from attnframe.attention.functional import linear_attention, linear_attention_weights, merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.attention.observing import PatternKind
from attnframe.registry import register_attention


class FeatureMap(enum.Enum):
    """φ, element by element; none is negative."""

    elu = "elu(x) + 1, as in the paper: above 0 everywhere"
    relu = "max(x, 0): many features are 0"
    softplus = "log(1 + e^x): above 0 everywhere, and smooth"


@register_attention("linear")
class Linear(Attention):
    """φ(Q_h)·(φ(K_h)ᵀ·V_h)/(φ(Q_h)·Σ_j φ(K_hj))·W_O: no softmax, so that no [query, key] matrix is formed.

    Reference: Katharopoulos et al. 2020, section 3.2, https://arxiv.org/abs/2006.16236. Our `feature_map` is their φ,
    which they take as elu(x) + 1. Time and memory are linear in the lengths, under a causal mask too; a window is
    refused. With relu a query may have no feature in common with any key: it gets zeros then, where theirs is 0/0.

    There are no weights to drop: attention dropout drops keys of a head, the same ones for all queries. The recorded
    pattern is what the weights would be. Decoding keeps the features and values of all tokens as every variant does,
    not the paper's state of constant size (section 3.4).
    """

    cacheable = True

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_context: int | None = None,
        bias: bool = True,
        *,
        feature_map: FeatureMap = FeatureMap.elu,
    ) -> None:
        super().__init__()
        d_context = d_model if d_context is None else d_context
        self.num_heads = num_heads
        self.feature_map = feature_map
        self.query_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_proj = nn.Linear(d_context, d_model, bias=bias)
        self.value_proj = nn.Linear(d_context, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = self._features(split_heads(self.query_proj(query), self.num_heads))
        k = self.cached("features", self._features(split_heads(self.key_proj(key), self.num_heads)))
        v = self.cached("values", split_heads(self.value_proj(value), self.num_heads))
        self.report_pattern(lambda: linear_attention_weights(q, k, mask), PatternKind.IMPLICIT)
        dropout = self.attention_dropout if self.training else 0.0
        return self.output_proj(merge_heads(linear_attention(q, k, v, mask, dropout=dropout)))

    def _features(self, x: Tensor) -> Tensor:
        if self.feature_map is FeatureMap.relu:
            return x.relu()
        if self.feature_map is FeatureMap.softplus:
            return F.softplus(x)
        # elu(x) + 1 would be 0 from about x = -17 on, by rounding.
        return x.clamp(max=0).exp() + x.relu()
