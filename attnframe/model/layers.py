"""Pre-norm Transformer layers around one or two attention modules."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attnframe.attention import Attention, Mask


class Embedding(nn.Module):
    """Token embeddings plus sinusoidal positions: the context-free E.

    Reference: Vaswani et al. 2017, sections 3.4 and 3.5, https://arxiv.org/abs/1706.03762.
    """

    def __init__(self, vocab_size: int, d_model: int, dropout: float) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, d_model)
        # Times √d_model in forward, this has the variance of a position, and of a logit when tied to the output.
        nn.init.normal_(self.token.weight, std=d_model**-0.5)
        self.dropout = nn.Dropout(dropout)
        self.register_buffer("_positions", sinusoids(64, d_model), persistent=False)

    def forward(self, ids: Int[Tensor, "batch length"], offset: int = 0) -> Float[Tensor, "batch length d_model"]:
        """`offset` is the position of the first id in its sentence."""
        length, d_model = offset + ids.shape[1], self.token.embedding_dim
        if length > self._positions.shape[0]:
            self._positions = sinusoids(2 * length, d_model).to(self._positions)
        return self.dropout(self.token(ids) * math.sqrt(d_model) + self._positions[offset:length])

    _positions: Tensor


def sinusoids(length: int, d_model: int) -> Float[Tensor, "length d_model"]:
    """Sines in the even and cosines in the odd columns, with wavelengths from 2π to 10000·2π positions."""
    position = torch.arange(length, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, d_model, 2, dtype=torch.float32) * (-math.log(10000.0) / d_model))
    table = torch.zeros(length, d_model)
    table[:, 0::2] = torch.sin(position * rate)
    table[:, 1::2] = torch.cos(position * rate[: d_model // 2])
    return table


class FeedForward(nn.Sequential):
    """Two linear maps with a ReLU between, on each position alike (Vaswani et al. 2017, section 3.3)."""

    def __init__(self, d_model: int, d_ff: int, dropout: float) -> None:
        super().__init__(nn.Linear(d_model, d_ff), nn.ReLU(), nn.Dropout(dropout), nn.Linear(d_ff, d_model))


class EncoderLayer(nn.Module):
    """E + ΔE from self-attention, then + feed-forward; each part reads a layer-normalised E (Xiong et al. 2020,
    https://arxiv.org/abs/2002.04745)."""

    def __init__(self, self_attention: Attention, d_model: int, d_ff: int, dropout: float) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(d_model)
        self.self_attention = self_attention
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Float[Tensor, "batch length d_model"], mask: Mask) -> Float[Tensor, "batch length d_model"]:
        e = self.self_norm(x)
        x = x + self.dropout(self.self_attention(e, e, e, mask))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))


class DecoderLayer(nn.Module):
    """E + ΔE from self-attention, + ΔE from the memory, then + feed-forward; pre-norm like `EncoderLayer`."""

    def __init__(
        self, self_attention: Attention, cross_attention: Attention, d_model: int, d_ff: int, dropout: float
    ) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(d_model)
        self.self_attention = self_attention
        self.cross_norm = nn.LayerNorm(d_model)
        self.cross_attention = cross_attention
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff, dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Float[Tensor, "batch target d_model"],
        memory: Float[Tensor, "batch source d_context"],
        self_mask: Mask,
        cross_mask: Mask,
    ) -> Float[Tensor, "batch target d_model"]:
        e = self.self_norm(x)
        x = x + self.dropout(self.self_attention(e, e, e, self_mask))
        x = x + self.dropout(self.cross_attention(self.cross_norm(x), memory, memory, cross_mask))
        return x + self.dropout(self.feed_forward(self.feed_forward_norm(x)))
