"""Wrong on purpose: variants with gradients that are missing or wrong, and dropout where it should not be."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from attnframe import Mask, register_attention
from attnframe.attention.multi_head import MultiHead


@register_attention("detached_keys")
class DetachedKeys(MultiHead):
    """Keys are cut off from their projection, which never learns."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        return super().attend(q, k.detach(), v, mask, **how)


class _HalfGradient(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient / 2


@register_attention("half_gradient")
class HalfGradient(MultiHead):
    """A backward pass of its own, which forgets a factor of 2."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        return super().attend(_HalfGradient.apply(q), k, v, mask, **how)


@register_attention("infinite_gradient")
class InfiniteGradient(MultiHead):
    """A gate that is the root of 0 where it starts: finite itself, with an infinite gradient."""

    def __init__(self, d_model: int, num_heads: int, bias: bool = True) -> None:
        super().__init__(d_model, num_heads, bias)
        self.gate = nn.Parameter(torch.ones(d_model))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        return super().forward(query, key, value, mask) + (self.gate - self.gate.detach()).abs().sqrt()


@register_attention("dropout_in_evaluation")
class DropoutInEvaluation(MultiHead):
    """Drops values with functional.dropout, which is on unless it is told otherwise."""

    def __init__(self, d_model: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__(d_model, num_heads)
        self.rate = dropout

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        return super().attend(q, k, functional.dropout(v, self.rate), mask, **how)


@register_attention("no_dropout")
class NoDropout(MultiHead):
    """Takes a rate of dropout and does nothing with it."""

    def __init__(self, d_model: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__(d_model, num_heads)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        self.attention_dropout = 0.0
        return super().attend(q, k, v, mask, **how)


@register_attention("random_features")
class RandomFeatures(MultiHead):
    """Draws new random numbers in each call, in evaluation as well."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        return super().attend(q + 0.01 * torch.randn_like(q), k, v, mask, **how)
