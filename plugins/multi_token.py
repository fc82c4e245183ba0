"""Multi-token attention: scores of neighbouring queries and keys, and heads, have a say in each weight."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attnframe import Attention, Mask, UserError, masked_softmax, merge_heads, register_attention, split_heads


@register_attention("multi_token")
class MultiToken(Attention):
    """M·softmax(θ_h * (Q_h·K_hᵀ/√d_k))·V_h·W_O: scores convolved over queries and keys, weights mixed by heads.

    Reference: Golovneva et al. 2025, sections 3.1 and 3.2, https://arxiv.org/abs/2504.00927. Our `query_kernel` and
    `key_kernel` are their c_q and c_k, the queries up to this one and the keys around this one that a weight looks at;
    `mixed_heads` (null means all) is their c_h, consecutive heads whose weights `head_mix` mixes after the softmax. A
    score counts as 0 where its own query or this one may not attend to its key, so that no later key is looked at:
    under a causal mask that is the form which they use, with 0 for hidden scores before the convolution. Their
    normalisation of each head's output (section 3.3) is left out. Both kernels start as the identity, at which this is
    multi-head attention.

    The corner of the contract that it shows: a `normaliser` that sees all scores of a call, with a pattern that may be
    negative. It cannot be cached: a score needs the queries before it, and only keys and values are kept.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_context: int | None = None,
        bias: bool = True,
        *,
        query_kernel: int = 6,
        key_kernel: int = 11,
        mixed_heads: int | None = None,
    ) -> None:
        super().__init__()
        for name, number in (("query_kernel", query_kernel), ("key_kernel", key_kernel)):
            if number < 1:
                raise UserError(f"{name}={number} must be at least 1 token")
        mixed_heads = num_heads if mixed_heads is None else mixed_heads
        if mixed_heads < 1 or num_heads % mixed_heads:
            raise UserError(f"mixed_heads={mixed_heads} must divide num_heads={num_heads} (null means all of them)")
        d_context = d_model if d_context is None else d_context
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_proj = nn.Linear(d_context, d_model, bias=bias)
        self.value_proj = nn.Linear(d_context, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)
        kernel = torch.zeros(num_heads, query_kernel, key_kernel)
        kernel[:, 0, key_kernel // 2] = 1.0
        self.kernel = nn.Parameter(kernel)
        self.head_mix = nn.Parameter(torch.eye(mixed_heads).repeat(num_heads // mixed_heads, 1, 1))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        v = split_heads(self.value_proj(value), self.num_heads)
        output = self.attend(q, k, v, mask, normaliser=self._weights)
        self.report_pattern(lambda weights: weights, "signed")
        return self.output_proj(merge_heads(output))

    def _weights(self, scores: Tensor, keep: Tensor) -> Tensor:
        own = scores.masked_fill(~keep, 0.0)
        kernel = self.kernel.to(scores.dtype)
        _, back, width = kernel.shape
        convolved = torch.zeros_like(own)
        for i in range(back):
            # The scores of the query i before this one; there is none before the first.
            earlier = F.pad(own, (0, 0, i, 0))[:, :, : own.shape[2]].masked_fill(~keep, 0.0)
            around = F.pad(earlier, (width // 2, (width - 1) // 2)).unfold(-1, width, 1)
            convolved = convolved + torch.einsum("bhqkw,hw->bhqk", around, kernel[:, i])
        weights = masked_softmax(convolved, keep).unflatten(1, self.head_mix.shape[:2])
        return torch.einsum("ghf,bgfqk->bghqk", self.head_mix.to(weights.dtype), weights).flatten(1, 2)
