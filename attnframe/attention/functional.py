"""Functions that a variant calls on its way from embeddings to embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from attnframe.attention.mask import Mask
from attnframe.backends import masked_softmax
from attnframe.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float, Int

__all__ = [
    "divide_into_heads",
    "linear_attention",
    "linear_attention_weights",
    "masked_softmax",
    "merge_heads",
    "rotate",
    "split_heads",
]

# Tokens whose products a causal `linear_attention` forms directly; those of earlier ones it has summed up.
_CHUNK = 64


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


def linear_attention(
    q_features: Float[Tensor, "batch heads query features"],
    k_features: Float[Tensor, "batch heads key features"],
    v: Float[Tensor, "batch heads key value_dim"],
    mask: Mask,
    *,
    dropout: float = 0.0,
) -> Float[Tensor, "batch heads query value_dim"]:
    """φ(q)·(φ(k)ᵀ·v) / (φ(q)·Σφ(k)): weights that are products of features, in time and memory linear in the lengths.

    Features must not be negative, and `mask` is bound to all keys. A query that may attend to nothing, or whose
    features have nothing in common with those of any key that it may attend to, gets zeros. `dropout` drops keys, each
    head's own but the same ones for all queries, for there are no weights to drop: the mean is that of dropped weights.

    Computed in float32 or better, as sums. Under a causal mask they run along the keys, a chunk at a time; under a
    window, whose keys would have to leave them again, a `UserError` is raised.

    Reference: Katharopoulos et al. 2020, sections 3.2 and 3.3, https://arxiv.org/abs/2006.16236.
    """
    if mask.window is not None:
        raise UserError(
            f"linear attention has no window (here window={mask.window}): it sums over all keys, or over all up to the "
            f"query, and cannot take one out again"
        )
    # Sums of many terms would be rounded in half precision at each of them.
    wide = torch.promote_types(v.dtype, torch.float32)
    queries, end = q_features.shape[2], mask.query_offset + q_features.shape[2]
    q, k, values = q_features.to(wide), _kept_features(k_features, mask).to(wide), v.to(wide)
    mass = torch.ones_like(values[..., :1])
    # Of the values alone: a key that is dropped stays in the denominator, as a dropped weight does.
    values = torch.cat([values * F.dropout(mass, dropout), mass], dim=-1)
    if not mask.causal:
        sums = q @ (k.mT @ values)
    elif queries == 1:
        sums = q @ (k[:, :, :end].mT @ values[:, :, :end])
    else:
        sums = _causal_sums(q, k[:, :, :end], values[:, :, :end], mask.query_offset)
    return _divided(sums[..., :-1], sums[..., -1:]).to(v.dtype)


def linear_attention_weights(
    q_features: Float[Tensor, "batch heads query features"],
    k_features: Float[Tensor, "batch heads key features"],
    mask: Mask,
) -> Float[Tensor, "batch heads query key"]:
    """The weights that `linear_attention` never forms: φ(q)·φ(k)ᵀ where allowed, over its sum, or 0 where that is 0."""
    wide = torch.promote_types(q_features.dtype, torch.float32)
    products = q_features.to(wide) @ _kept_features(k_features, mask).to(wide).mT
    products = products.masked_fill(~mask.dense(), 0.0)
    return _divided(products, products.sum(-1, keepdim=True))


def _kept_features(k_features: Tensor, mask: Mask) -> Tensor:
    return k_features if mask.key_keep is None else k_features.masked_fill(~mask.key_keep[:, None, :, None], 0.0)


def _divided(sums: Tensor, total: Tensor) -> Tensor:
    """0 where the total is 0, and no gradient there."""
    return (sums / total.masked_fill(total == 0, 1.0)).masked_fill(total == 0, 0.0)


def _causal_sums(q: Tensor, k: Tensor, v: Tensor, offset: int) -> Tensor:
    """Σ_{j ≤ i} (q_i·k_j)·v_j for the query at position i = `offset`, offset + 1, ..."""
    queries, end = q.shape[2], offset + q.shape[2]
    chunk = min(_CHUNK, end)
    first, last = offset // chunk, -(-end // chunk)
    ahead = offset - first * chunk
    q = F.pad(q, (0, 0, ahead, last * chunk - end)).unflatten(2, (-1, chunk))
    k, v = (F.pad(x, (0, 0, 0, last * chunk - x.shape[2])).unflatten(2, (-1, chunk)) for x in (k, v))
    sums = (q @ k[:, :, first:].mT).tril() @ v[:, :, first:]
    if last > 1:
        # Entry c is the sum over the chunks before c; taking chunk c off the sum up to it would leave a rounding error.
        earlier = F.pad((k.mT @ v).cumsum(2), (0, 0, 0, 0, 1, 0))[:, :, first:last]
        sums = sums + q @ earlier
    return sums.flatten(2, 3)[:, :, ahead : ahead + queries]
