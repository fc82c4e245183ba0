"""Right, and each in another corner of the contract than the core variants: the suite must let them pass."""

from __future__ import annotations

import dataclasses
import enum

import torch
from torch import Tensor, nn
from torch.nn import functional

from attnframe import Attention, Mask, UserError, masked_softmax, merge_heads, register_attention, split_heads


class _Projected(Attention):
    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, d_model)
        self.key_proj = nn.Linear(d_model, d_model)
        self.value_proj = nn.Linear(d_model, d_model)
        self.output_proj = nn.Linear(d_model, d_model)

    def qkv(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        return q, k, split_heads(self.value_proj(value), self.num_heads)


@register_attention("right_linear")
class RightLinear(_Projected):
    """φ(Q)·(φ(K)ᵀ·V) / (φ(Q)·Σφ(K)): no softmax, no attend, and no window.

    Katharopoulos et al. 2020, section 3.2, https://arxiv.org/abs/2006.16236.
    """

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        if mask.window is not None:
            raise UserError("right_linear has no window")
        q, k, v = self.qkv(query, key, value)
        q, k = functional.elu(q) + 1, functional.elu(k) + 1
        if mask.key_keep is not None:
            k = k * mask.key_keep[:, None, :, None]
        outer, total = k.unsqueeze(-1) * v.unsqueeze(-2), k
        if mask.causal:
            position = (torch.arange(q.shape[2]) + mask.query_offset).clamp(max=k.shape[2] - 1)
            outer, total = outer.cumsum(2)[:, :, position], total.cumsum(2)[:, :, position]
        else:
            outer, total = outer.sum(2, keepdim=True), total.sum(2, keepdim=True)
        mass = (q * total).sum(-1, keepdim=True)
        output = (q.unsqueeze(-2) @ outer).squeeze(-2) / mass.clamp(min=1e-4)

        def combine() -> Tensor:
            weights = (q @ k.mT) * mask.dense()
            return weights / weights.sum(-1, keepdim=True).clamp(min=1e-4)

        self.report_pattern(combine, "implicit")
        return self.output_proj(merge_heads(output))


@register_attention("right_differential")
class RightDifferential(_Projected):
    """(softmax(Q¹·K¹ᵀ) - λ·softmax(Q²·K²ᵀ))·V, with a norm of each head. https://arxiv.org/abs/2410.05258"""

    cacheable = True

    def __init__(self, d_model: int, num_heads: int, *, lambda_init: float = 0.8) -> None:
        super().__init__(d_model, num_heads)
        self.other_query_proj = nn.Linear(d_model, d_model)
        self.other_key_proj = nn.Linear(d_model, d_model)
        self.lambda_ = nn.Parameter(torch.tensor(lambda_init))
        self.norm = nn.RMSNorm(d_model // num_heads)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = self.qkv(query, key, value)
        other_q = split_heads(self.other_query_proj(query), self.num_heads)
        other_k = split_heads(self.other_key_proj(key), self.num_heads)
        heads = self.attend(q, k, v, mask) - self.lambda_ * self.attend(other_q, other_k, v, mask)
        self.report_pattern(lambda first, second: first - self.lambda_ * second, "signed")
        return self.output_proj(merge_heads(self.norm(heads)))


@register_attention("right_latent")
class RightLatent(Attention):
    """Keys and values from one latent, which alone is kept: values come from the key embeddings.

    DeepSeek-AI 2024, section 2.1.2, https://arxiv.org/abs/2405.04434.
    """

    cacheable = True

    def __init__(
        self, d_model: int, num_heads: int, d_context: int | None = None, *, rank: int = 3, value_dim: int | None = None
    ) -> None:
        super().__init__()
        value_dim = 13 if value_dim is None else value_dim
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, num_heads * 5)
        self.down = nn.Linear(d_context or d_model, rank)
        self.key_up = nn.Linear(rank, num_heads * 5)
        self.value_up = nn.Linear(rank, num_heads * value_dim)
        self.output_proj = nn.Linear(num_heads * value_dim, d_model)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        latent = self.cached("latent", self.down(key))
        q = split_heads(self.query_proj(query), self.num_heads)
        k, v = split_heads(self.key_up(latent), self.num_heads), split_heads(self.value_up(latent), self.num_heads)
        return self.output_proj(merge_heads(self.attend(q, k, v, mask)))


@register_attention("right_additive")
class RightAdditive(_Projected):
    """softmax(w·tanh(Q + K))·V: own scores, no attend, and dropout of its own. https://arxiv.org/abs/1409.0473"""

    def __init__(self, d_model: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__(d_model, num_heads)
        self.score = nn.Linear(d_model // num_heads, 1, bias=False)
        self.drop = nn.Dropout(dropout)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = self.qkv(query, key, value)
        scores = self.score(torch.tanh(q.unsqueeze(3) + k.unsqueeze(2))).squeeze(-1)
        weights = masked_softmax(scores, mask.dense())
        self.report_pattern(lambda: weights, "probability")
        return self.output_proj(merge_heads(self.drop(weights) @ v))


@register_attention("right_sliding")
class RightSliding(_Projected):
    """Softmax attention to the `reach` nearest tokens. https://arxiv.org/abs/2004.05150"""

    cacheable = True

    def __init__(self, d_model: int, num_heads: int, *, reach: int = 1) -> None:
        super().__init__(d_model, num_heads)
        self.reach = reach

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        near = self.reach if mask.window is None else min(self.reach, mask.window)
        heads = self.attend(*self.qkv(query, key, value), dataclasses.replace(mask, window=near))
        return self.output_proj(merge_heads(heads))


@register_attention("right_rotary")
class RightRotary(_Projected):
    """Queries and keys turned by their position, in pairs of features. https://arxiv.org/abs/2104.09864"""

    cacheable = True

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__(d_model, num_heads)
        if d_model // num_heads % 2:
            raise UserError(f"head_dim={d_model // num_heads} must be even")

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = self.qkv(query, key, value)
        q, k = self.turn(q, mask.query_offset), self.turn(k, mask.key_offset)
        return self.output_proj(merge_heads(self.attend(q, k, v, mask)))

    def turn(self, x: Tensor, offset: int) -> Tensor:
        a, b = x.chunk(2, dim=-1)
        speed = 10_000 ** -torch.linspace(0, 1, a.shape[-1], dtype=x.dtype, device=x.device)
        angle = (torch.arange(x.shape[2], dtype=x.dtype, device=x.device) + offset)[:, None] * speed
        return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], dim=-1)


class Gate(enum.Enum):
    """What the gate is a function of."""

    SIGMOID = "sigmoid"
    TANH = "tanh"


@register_attention("right_gated")
class RightGated(_Projected):
    """A gate of each query on what its heads say; key heads may be shared. https://arxiv.org/abs/2505.06708"""

    cacheable = True

    def __init__(
        self, d_model: int, num_heads: int, *, gate: Gate = Gate.SIGMOID, shared: bool = True, cap: float = 20.0
    ) -> None:
        super().__init__(d_model, num_heads)
        self.gate_proj = nn.Linear(d_model, d_model)
        self.gate, self.shared, self.cap = gate, shared, cap

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = self.qkv(query, key, value)
        if self.shared:
            k, v = k.mean(1, keepdim=True), v.mean(1, keepdim=True)
        heads = self.attend(q, k, v, mask, score_mod=self.capped)
        opened = self.gate_proj(query)
        opened = opened.sigmoid() if self.gate is Gate.SIGMOID else opened.tanh()
        return self.output_proj(merge_heads(heads) * opened)

    def capped(self, score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return self.cap * torch.tanh(score / self.cap)


@register_attention("right_sink")
class RightSink(_Projected):
    """e^s / (e^sink + Σe^s): a learned logit of each head that takes part of the mass and has no value."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__(d_model, num_heads)
        self.sink = nn.Parameter(torch.zeros(num_heads))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = self.qkv(query, key, value)
        scores = q @ k.mT / q.shape[-1] ** 0.5
        sink = self.sink[:, None, None].expand(*scores.shape[:3], 1)
        keep = functional.pad(mask.dense(), (0, 1), value=True)
        weights = masked_softmax(torch.cat([scores, sink], -1), keep)[..., :-1]
        self.report_pattern(lambda: weights, "unnormalised", mass=weights.sum(-1))
        return self.output_proj(merge_heads(weights @ v))


@register_attention("right_talking_heads")
class RightTalkingHeads(_Projected):
    """Heads mixed before and after the softmax. Shazeer et al. 2020, https://arxiv.org/abs/2003.02436"""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__(d_model, num_heads)
        self.before = nn.Parameter(torch.eye(num_heads))
        self.after = nn.Parameter(torch.eye(num_heads))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = self.qkv(query, key, value)
        scores = torch.einsum("hg,bhqk->bgqk", self.before, q @ k.mT / q.shape[-1] ** 0.5)
        weights = torch.einsum("hg,bhqk->bgqk", self.after, masked_softmax(scores, mask.dense()))
        self.report_pattern(lambda: weights, "signed")
        return self.output_proj(merge_heads(weights @ v))


@register_attention("right_neighbours")
class RightNeighbours(_Projected):
    """Each query is mixed with the one before it, so that it cannot be decoded alone and does not say that it can."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = self.qkv(query, key, value)
        before = functional.pad(q, (0, 0, 1, 0))[:, :, :-1]
        return self.output_proj(merge_heads(self.attend(q + 0.5 * before, k, v, mask)))


@register_attention("right_silent")
class RightSilent(_Projected):
    """Calls attend twice and does not say its pattern: it is trained all the same."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = self.qkv(query, key, value)
        return self.output_proj(merge_heads(self.attend(q, k, v, mask) * self.attend(q.flip(-1), k, v, mask)))


@register_attention("right_mixed")
class RightMixed(_Projected):
    """Attention to a few mixtures of keys, which have no causal form and no window. https://arxiv.org/abs/2006.04768"""

    def __init__(self, d_model: int, num_heads: int, *, rank: int = 3) -> None:
        super().__init__(d_model, num_heads)
        self.rank = rank
        self.mix = nn.Parameter(torch.randn(rank, 64))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        if mask.causal or mask.window is not None:
            raise UserError("right_mixed mixes all keys")
        q, k, v = self.qkv(query, key, value)
        mix = self.mix[:, : key.shape[1]]
        if mask.key_keep is not None:
            k, v = (x.masked_fill(~mask.key_keep[:, None, :, None], 0.0) for x in (k, v))
        unmasked = Mask().bind(len(query), query.shape[1], self.rank, query.device)
        heads = self.attend(q, mix @ k, mix @ v, unmasked)

        def combine(weights: Tensor) -> Tensor:
            return (weights @ mix.to(weights.dtype)).masked_fill(~mask.dense(), 0.0)

        self.report_pattern(combine, "signed")
        return self.output_proj(merge_heads(heads))
