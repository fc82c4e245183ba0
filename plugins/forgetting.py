"""The Forgetting Transformer's attention: each token says how much of what came before it is forgotten."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnframe import Attention, Mask, UserError, merge_heads, register_attention, split_heads


@register_attention("forgetting")
class Forgetting(Attention):
    """softmax_j(q_hi·k_hj/√d_k - |c_hi - c_hj|)·V_h·W_O with c_ht = Σ_{l≤t} log f_hl: what lies back is forgotten.

    Reference: Lin et al. 2025, section 3, https://arxiv.org/abs/2503.02130. Our `forget_proj` is their w_f and b_f of
    all heads: the gate of token l is f_hl = σ(w_h·y_l + b_h), of the key embeddings y. `half_life` is after how many
    tokens a new gate has halved a weight: it sets b at the start, theirs starts at 1 token (b = 0).

    They define causal self-attention alone, where c_i - c_j is never above 0 and this is theirs. Otherwise the same
    distance is taken forwards too, from the key at the query's own position (the last one, where there are fewer
    keys): in an encoder the tokens between the two, in cross-attention the keys between position i and key j.

    The corner of the contract that it shows: a `score_mod` that depends on the tokens, by numbers that `cached` keeps
    of all of them.
    """

    cacheable = True

    def __init__(
        self, d_model: int, num_heads: int, d_context: int | None = None, bias: bool = True, *, half_life: float = 8.0
    ) -> None:
        super().__init__()
        if not (half_life > 0 and math.isfinite(half_life)):
            raise UserError(f"half_life={half_life} must be a number of tokens above 0")
        d_context = d_model if d_context is None else d_context
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_proj = nn.Linear(d_context, d_model, bias=bias)
        self.value_proj = nn.Linear(d_context, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)
        self.forget_proj = nn.Linear(d_context, num_heads)
        # σ(b) = 2^(-1 / half_life)
        nn.init.constant_(self.forget_proj.bias, -math.log(2 ** (1 / half_life) - 1))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        v = split_heads(self.value_proj(value), self.num_heads)
        kept = self.cached("log_forget", F.logsigmoid(split_heads(self.forget_proj(key), self.num_heads))).squeeze(-1)
        if mask.key_keep is not None:
            kept = kept.masked_fill(~mask.key_keep[:, None], 0.0)
        # c_t at index t + 1, so that there is a number before the first key. In float32 or better: it grows with t.
        c = F.pad(kept.to(torch.promote_types(kept.dtype, torch.float32)).cumsum(-1), (1, 0))
        # Of the keys a tensor of its own: flex takes the gradient of one that is looked up once.
        c_of_key = c[..., 1:]
        last = kept.shape[-1]

        def forget(score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
            return score - (c[batch, head, (q_idx + 1).clamp(max=last)] - c_of_key[batch, head, kv_idx]).abs()

        return self.output_proj(merge_heads(self.attend(q, k, v, mask, score_mod=forget)))
