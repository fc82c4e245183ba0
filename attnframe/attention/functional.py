"""Functions that a variant calls on its way from embeddings to embeddings."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from attnframe.backends import masked_softmax
from attnframe.errors import UserError

__all__ = ["divide_into_heads", "masked_softmax", "merge_heads", "split_heads"]


def split_heads(
    x: Float[Tensor, "batch length width"], num_heads: int
) -> Float[Tensor, "batch num_heads length head_dim"]:
    """Cut the last axis into `num_heads` consecutive pieces and put the heads before the length."""
    return x.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(x: Float[Tensor, "batch heads length head_dim"]) -> Float[Tensor, "batch length width"]:
    """The inverse of `split_heads`: heads side by side in the last axis."""
    return x.transpose(1, 2).flatten(-2)


def divide_into_heads(d_model: int, num_heads: int) -> int:
    """The head_dim d_model / num_heads. Raises `UserError` when that is no whole number."""
    if num_heads < 1 or d_model % num_heads:
        divisors = ", ".join(str(n) for n in range(1, d_model + 1) if d_model % n == 0)
        raise UserError(f"num_heads={num_heads} does not divide d_model={d_model}; possible are {divisors}")
    return d_model // num_heads
