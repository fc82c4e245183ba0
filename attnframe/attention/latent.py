"""Multi-head latent attention: keys and values are made of one short latent per token, which alone is cached."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.functional import divide_into_heads, merge_heads, rotate, split_heads
from attnframe.attention.mask import Mask
from attnframe.attention.norms import RMSNorm
from attnframe.errors import UserError
from attnframe.registry import register_attention


@register_attention("latent")
class Latent(Attention):
    """softmax(([Q_h; R(Q'_h)]·[C·W_UK_h; R(K')]ᵀ)/√(d_h+d_r))·C·W_UV_h·W_O: the latent C = X·W_DKV and K' are cached.

    Reference: DeepSeek-AI 2024, section 2.1, https://arxiv.org/abs/2405.04434. R is RoPE; K' is one rotated key for
    all heads. Our `kv_rank` is their d_c (null: 2·head_dim), `q_rank` their d_c' (null: queries without a latent),
    `rope_dim` their d_h^R, here d_r (null: half of head_dim, made even), `theta` the base of RoPE's angles, and
    `latent_down`, `key_up`, `value_up`, `rope_key_proj`, `query_down`, `query_up`, `rope_query_proj` are their W^DKV,
    W^UK, W^UV, W^KR, W^DQ, W^UQ, W^QR. Latents go through an RMSNorm, as their section 3.1.2 says. Projections have
    biases where `bias` says so; theirs have none. Values that come from other embeddings than the keys have a latent of
    their own. Their models have d_c = 4·d_h, which for few heads saves nothing. Decoding makes the keys and values of
    all tokens of their latents at each step, so it saves memory, not time. It has RoPE already: the option `rope` would
    turn all of q and k once more.
    """

    cacheable = True

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_context: int | None = None,
        bias: bool = True,
        *,
        kv_rank: int | None = None,
        q_rank: int | None = None,
        rope_dim: int | None = None,
        theta: float = 10000.0,
    ) -> None:
        super().__init__()
        head_dim = divide_into_heads(d_model, num_heads)
        d_context = d_model if d_context is None else d_context
        kv_rank = 2 * head_dim if kv_rank is None else kv_rank
        rope_dim = max(2, head_dim // 4 * 2) if rope_dim is None else rope_dim
        for name, rank in (("kv_rank", kv_rank), ("q_rank", q_rank)):
            if rank is not None and rank < 1:
                raise UserError(f"{name}={rank} must be at least 1, or null")
        if rope_dim < 2 or rope_dim % 2:
            raise UserError(f"rope_dim={rope_dim} must be even and at least 2, for RoPE turns pairs, or null")
        if theta <= 1:
            raise UserError(f"theta={theta:g} must be above 1")
        self.num_heads = num_heads
        self.theta = theta
        self.latent_down = nn.Linear(d_context, kv_rank, bias=bias)
        self.latent_norm = RMSNorm(kv_rank)
        self.key_up = nn.Linear(kv_rank, d_model, bias=bias)
        self.value_up = nn.Linear(kv_rank, d_model, bias=bias)
        self.rope_key_proj = nn.Linear(d_context, rope_dim, bias=bias)
        self.query_down = nn.Identity() if q_rank is None else nn.Linear(d_model, q_rank, bias=bias)
        self.query_norm = nn.Identity() if q_rank is None else RMSNorm(q_rank)
        self.query_up = nn.Linear(d_model if q_rank is None else q_rank, d_model, bias=bias)
        self.rope_query_proj = nn.Linear(d_model if q_rank is None else q_rank, num_heads * rope_dim, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        query_latent = self.query_norm(self.query_down(query))
        q = split_heads(self.query_up(query_latent), self.num_heads)
        q_rope = split_heads(self.rope_query_proj(query_latent), self.num_heads)
        q = torch.cat([q, self._rotated(q_rope, mask.query_offset)], dim=-1)

        latent = self.cached("latent", self.latent_norm(self.latent_down(key)))
        value_latent = latent
        if value is not key:
            value_latent = self.cached("value_latent", self.latent_norm(self.latent_down(value)))
        rope_key = self._rotated(self.rope_key_proj(key).unsqueeze(1), mask.key_offset)
        rope_key = self.cached("rope_key", rope_key).expand(-1, self.num_heads, -1, -1)
        k = torch.cat([split_heads(self.key_up(latent), self.num_heads), rope_key], dim=-1)
        v = split_heads(self.value_up(value_latent), self.num_heads)
        return self.output_proj(merge_heads(self.attend(q, k, v, mask)))

    def _rotated(self, x: Tensor, start: int) -> Tensor:
        return rotate(x, torch.arange(start, start + x.shape[-2], device=x.device), base=self.theta)
