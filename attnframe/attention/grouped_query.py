"""Grouped-query attention, and with one key head multi-query attention."""

from __future__ import annotations

from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.functional import divide_into_heads, merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.errors import UserError
from attnframe.registry import register_attention


@register_attention("grouped_query")
class GroupedQuery(Attention):
    """Concat_h(softmax(Q_h·K_g(h)ᵀ/√d_k)·V_g(h))·W_O: groups of query heads share one key and value head each.

    Reference: Ainslie et al. 2023, section 2.2, https://arxiv.org/abs/2305.13245. Our `num_kv_heads` is their number of
    groups G; g(h) puts consecutive heads into one group. With `num_kv_heads` 1 it is the multi-query attention of
    Shazeer 2019, section 3, https://arxiv.org/abs/1911.02150, with num_heads it is multi-head attention. Null means
    half of num_heads, and 1 where that is no whole number.
    """

    cacheable = True

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_context: int | None = None,
        bias: bool = True,
        *,
        num_kv_heads: int | None = None,
    ) -> None:
        super().__init__()
        head_dim = divide_into_heads(d_model, num_heads)
        if num_kv_heads is None:
            num_kv_heads = 1 if num_heads % 2 else num_heads // 2
        if num_kv_heads < 1 or num_heads % num_kv_heads:
            divisors = ", ".join(str(n) for n in range(1, num_heads + 1) if num_heads % n == 0)
            raise UserError(f"num_kv_heads={num_kv_heads} does not divide num_heads={num_heads}; possible: {divisors}")
        d_context = d_model if d_context is None else d_context
        self.num_heads = num_heads
        self.num_kv_heads = num_kv_heads
        self.query_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_proj = nn.Linear(d_context, num_kv_heads * head_dim, bias=bias)
        self.value_proj = nn.Linear(d_context, num_kv_heads * head_dim, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_kv_heads)
        v = split_heads(self.value_proj(value), self.num_kv_heads)
        return self.output_proj(merge_heads(self.attend(q, k, v, mask)))
