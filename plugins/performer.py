"""Performer: random features whose products are an unbiased estimate of softmax attention's numerators."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from attnframe import Attention, Mask, UserError, merge_heads, register_attention, split_heads
from attnframe.attention import linear_attention, linear_attention_weights


@register_attention("performer")
class Performer(Attention):
    """φ(Q_h)·(φ(K_h)ᵀ·V_h)/(φ(Q_h)·Σ_j φ(K_hj))·W_O with E[φ(q)·φ(k)] = e^(q·k/√d_k): softmax attention, estimated.

    Reference: Choromanski et al. 2021, section 2 (FAVOR+), https://arxiv.org/abs/2009.14794. Our `num_features` is
    their m (null means d_k·ln d_k, rounded up, the order that their theorem 4 asks for); `directions` are their ω,
    orthogonal in blocks of d_k, and φ_r(x) = e^(ω_r·x - |x|²/2)/√m of x = q/d_k^¼ or k/d_k^¼. Each head has directions
    of its own, drawn once: theirs are drawn again now and then in training.

    A query's features are divided by their largest, which takes nothing from the quotient. Keys' are not, for that
    would be another number for each step of decoding; they are at most e^(|ω|²/2), which float32 holds up to a d_k of
    about 128. Dropout drops keys, as in `linear`, and a window is refused. Decoding keeps the features of all tokens,
    more numbers than keys would be, and not the sum over them, which is all that the paper needs.

    The corner of the contract that it shows: no `attend` at all, random numbers that belong to the checkpoint (a
    buffer), and a pattern that is formed only where somebody looks.
    """

    cacheable = True

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_context: int | None = None,
        bias: bool = True,
        *,
        num_features: int | None = None,
    ) -> None:
        super().__init__()
        if num_features is not None and num_features < 1:
            raise UserError(f"num_features={num_features} must be at least 1 (null means head_dim times its logarithm)")
        d_context = d_model if d_context is None else d_context
        head_dim = d_model // num_heads
        if num_features is None:
            num_features = max(1, math.ceil(head_dim * math.log(head_dim)))
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_proj = nn.Linear(d_context, d_model, bias=bias)
        self.value_proj = nn.Linear(d_context, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)
        self.register_buffer("directions", orthogonal_directions(num_heads, num_features, head_dim))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        exponents = self._exponents(split_heads(self.query_proj(query), self.num_heads))
        q = (exponents - exponents.detach().amax(-1, keepdim=True)).exp()
        k = self.cached("features", self._exponents(split_heads(self.key_proj(key), self.num_heads)).exp())
        v = self.cached("values", split_heads(self.value_proj(value), self.num_heads))
        self.report_pattern(lambda: linear_attention_weights(q, k, mask), "implicit")
        dropout = self.attention_dropout if self.training else 0.0
        return self.output_proj(merge_heads(linear_attention(q, k, v, mask, dropout=dropout)))

    def _exponents(self, x: Tensor) -> Tensor:
        """ω_r·x - |x|²/2; the factor 1/√m is the same above and below the fraction."""
        # e^x in half precision overflows at 11.
        wide = torch.promote_types(x.dtype, torch.float32)
        x = x.to(wide) * x.shape[-1] ** -0.25
        return x @ self.directions.to(wide).mT - x.square().sum(-1, keepdim=True) / 2


def orthogonal_directions(num_heads: int, num_features: int, head_dim: int) -> Tensor:
    """[num_heads, num_features, head_dim]: each row alone is a vector of normal numbers, and those of a block of
    `head_dim` rows are orthogonal."""
    blocks = math.ceil(num_features / head_dim)
    normal = torch.randn(num_heads, blocks, head_dim, head_dim)
    q, r = torch.linalg.qr(normal)
    # With these signs Q is as likely to be one rotation as any other.
    rotations = (q * r.diagonal(dim1=-2, dim2=-1).sign().unsqueeze(-2)).mT
    lengths = torch.randn(num_heads, blocks, head_dim, head_dim).norm(dim=-1, keepdim=True)
    return (lengths * rotations).flatten(1, 2)[:, :num_features].contiguous()
