"""Attention and its row statistics on the Triton kernels. Importing this imports triton."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from attnframe.backends.triton.operators import triton_attention

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

DTYPES = (torch.float32, torch.float16, torch.bfloat16)


class AttentionOutput(NamedTuple):
    """What one pass over the keys gives. The statistics are float32, in nats; the last two are None unless asked for.

    A query that may attend to nothing has output 0, `lse` and `max_score` -inf and `entropy` 0.
    """

    output: Float[Tensor, "batch heads query value_dim"]
    lse: Float[Tensor, "batch heads query"]
    """ln Σ e^score over the keys; differentiable."""
    max_score: Float[Tensor, "batch heads query"] | None
    """The greatest score; without a gradient."""
    entropy: Float[Tensor, "batch heads query"] | None
    """-Σ p ln p of the weights; differentiable."""


def attention(
    q: Float[Tensor, "batch heads query head_dim"],
    k: Float[Tensor, "batch key_heads key head_dim"],
    v: Float[Tensor, "batch key_heads key value_dim"],
    *,
    scale: float,
    causal: bool = False,
    window: int | None = None,
    query_offset: int = 0,
    key_keep: Bool[Tensor, "batch key"] | None = None,
    statistics: bool = False,
    softcap: float | None = None,
    slopes: Float[Tensor, " heads"] | None = None,
    key_bias: Float[Tensor, "batch key"] | None = None,
) -> AttentionOutput:
    """softmax(q·kᵀ·scale)·v with the statistics of its rows; the mask's parts mean what they mean in `Mask`.

    `softcap`, `slopes` and `key_bias` change the scores in this order, as the `score_mods` Softcap, DistanceBias and
    KeyBias do; there is a gradient of `key_bias`, and none of `slopes`. The statistics are those of the changed scores.
    Output and gradients are those of the same inputs to the bit, each time. Raises `ValueError` for dtypes or shapes
    that do not fit together.
    """
    _check(q, k, v, key_keep, slopes, key_bias)
    if scale <= 0:
        # The kernels find the greatest score before they scale it.
        q, scale = q * scale, 1.0
    slopes = None if slopes is None else slopes.detach().float()
    key_bias = None if key_bias is None else key_bias.float()
    output, lse, peak, _, entropy = triton_attention(
        q, k, v, key_keep, scale, causal, window, query_offset, softcap, slopes, key_bias, statistics
    )
    if not statistics:
        return AttentionOutput(output, lse, None, None)
    if softcap is None and slopes is None and key_bias is None:
        peak = peak * scale
    max_score = peak.detach().masked_fill(lse.detach() == -torch.inf, -torch.inf)
    return AttentionOutput(output, lse, max_score, entropy)


def _check(
    q: Tensor, k: Tensor, v: Tensor, key_keep: Tensor | None, slopes: Tensor | None, key_bias: Tensor | None
) -> None:
    if q.dtype not in DTYPES or k.dtype != q.dtype or v.dtype != q.dtype:
        raise ValueError(f"q, k and v are {q.dtype}, {k.dtype} and {v.dtype}: the kernels need one of {DTYPES} for all")
    shapes = f"q {list(q.shape)}, k {list(k.shape)}, v {list(v.shape)}"
    batch, heads, _, head_dim = q.shape
    key_batch, key_heads, keys, key_dim = k.shape
    if key_batch != batch or key_dim != head_dim or v.shape[:3] != k.shape[:3] or heads % key_heads:
        raise ValueError(f"{shapes}: batch, head_dim and keys must agree, and the key heads divide the heads")
    for name, given, shape in (
        ("key_keep", key_keep, (batch, keys)),
        ("slopes", slopes, (heads,)),
        ("key_bias", key_bias, (batch, keys)),
    ):
        if given is not None and given.shape != shape:
            raise ValueError(f"{name} is {list(given.shape)}, the call needs {list(shape)}")
