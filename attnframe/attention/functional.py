"""Functions that a variant calls on its way from embeddings to embeddings."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attnframe.backends import masked_softmax
from attnframe.errors import UserError

__all__ = ["divide_into_heads", "masked_softmax", "merge_heads", "rotate", "split_heads"]


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


def rotate(
    x: Float[Tensor, "*batch length dim"], positions: Int[Tensor, " length"], *, base: float = 10000.0
) -> Float[Tensor, "*batch length dim"]:
    """RoPE: turn pair i of dimensions at position p by the angle p·base^(-2i/dim), so that q·k knows their distance.

    Reference: Su et al. 2021, section 3.2.2, https://arxiv.org/abs/2104.09864. There a pair are the dimensions 2i and
    2i + 1; here they are i and i + dim/2, as in most released models: the same up to the order of the dimensions.
    Raises `UserError` when `dim` is odd.
    """
    dim = x.shape[-1]
    if dim % 2:
        raise UserError(f"RoPE turns pairs of dimensions, and {dim} is odd")
    # In fp32 or better: the angle of a late position has more digits than half precision.
    wide = torch.promote_types(x.dtype, torch.float32)
    turns = base ** (-torch.arange(0, dim, 2, device=x.device, dtype=wide) / dim)
    angles = positions.to(wide)[:, None] * turns
    first, second = x.to(wide).chunk(2, dim=-1)
    sin, cos = angles.sin(), angles.cos()
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(x.dtype)
