"""Differential attention: what two patterns have in common cancels."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.functional import divide_into_heads, merge_heads, split_heads
from attnframe.attention.mask import Mask
from attnframe.attention.norms import RMSNorm
from attnframe.attention.observing import PatternKind
from attnframe.errors import UserError
from attnframe.registry import register_attention


@register_attention("differential")
class Differential(Attention):
    """Concat_h((1 - λ₀)·RMSNorm((softmax(Q₁·K₁ᵀ/√d) - λ·softmax(Q₂·K₂ᵀ/√d))·V))·W_O: common noise of two maps cancels.

    Reference: Ye et al. 2024, section 2.1, https://arxiv.org/abs/2410.05258, with λ = exp(λ_q1·λ_k1) - exp(λ_q2·λ_k2)
    + λ₀ for all heads of a layer and λ₀ = 0.8 - 0.6·exp(-0.3·layer), layers counted from 0. Our head_dim = d_model /
    num_heads is their 2d: Q₁ and K₁ of a head are the first half of its dimensions, Q₂ and K₂ the second, V has all
    (where head_dim is odd, Q and K have one dimension more). As in their code, one gain behind the norm serves all
    heads. `lambda_init` is λ₀; null takes it from the depth.
    """

    cacheable = True

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_context: int | None = None,
        bias: bool = True,
        *,
        lambda_init: float | None = None,
    ) -> None:
        super().__init__()
        head_dim = divide_into_heads(d_model, num_heads)
        half = math.ceil(head_dim / 2)
        if lambda_init is not None and not 0 <= lambda_init < 1:
            raise UserError(f"lambda_init={lambda_init} must be at least 0 and below 1 (null takes it from the depth)")
        d_context = d_model if d_context is None else d_context
        self.num_heads = num_heads
        self.lambda_init = lambda_init
        self.query_proj = nn.Linear(d_model, 2 * half * num_heads, bias=bias)
        self.key_proj = nn.Linear(d_context, 2 * half * num_heads, bias=bias)
        self.value_proj = nn.Linear(d_context, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)
        # The standard deviation of the authors' code.
        self.lambda_q1, self.lambda_k1, self.lambda_q2, self.lambda_k2 = (
            nn.Parameter(0.1 * torch.randn(half)) for _ in range(4)
        )
        self.head_norm = RMSNorm(head_dim, eps=1e-5)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        # Kept here, for each of the two calls of attend would keep a V of its own.
        k = self.cached("k", self.key_proj(key))
        v = self.cached("v", self.value_proj(value))
        q, k, v = (split_heads(x, self.num_heads) for x in (self.query_proj(query), k, v))
        (q1, q2), (k1, k2) = q.chunk(2, dim=-1), k.chunk(2, dim=-1)
        # The layer is known when the module has its place in a model.
        start = 0.8 - 0.6 * math.exp(-0.3 * self.layer) if self.lambda_init is None else self.lambda_init
        weight = (self.lambda_q1 * self.lambda_k1).sum().exp() - (self.lambda_q2 * self.lambda_k2).sum().exp() + start
        output = self.attend(q1, k1, v, mask) - weight * self.attend(q2, k2, v, mask)
        mass = 1 - weight.detach().double()
        self.report_pattern(lambda first, second: first - weight * second, PatternKind.SIGNED, mass=mass)
        return self.output_proj(merge_heads((1 - start) * self.head_norm(output)))
