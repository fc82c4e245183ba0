"""What a key adds to an embedding: the norm of its part of ΔE, beside the weight that it gets.

Reference: Kobayashi et al. 2020, "Attention is Not Only a Weight: Analyzing Transformers with Vector Norms", section 3,
https://arxiv.org/abs/2004.10102. A key with a large weight adds little where its value is short.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from attnframe.attention import AttendCall
from attnframe.backends.eager import repeat_heads
from attnframe.patterns.head_maps import OutputMaps


def contribution_norms(
    weights: Sequence[Float[Tensor, "batch heads query key"]],
    values: Sequence[Float[Tensor, "batch heads key value_dim"]],
    maps: OutputMaps,
) -> Float[Tensor, "batch heads query key"]:
    """‖Σ_c P_cij·V_cj·W_c‖ for each head, query i and key j; c counts the `attend` calls of a forward, mostly one.

    `weights` are P and `values` V of each call. The bias of ΔE belongs to no key and is left out; one of V is in it.
    """
    moved = [torch.einsum("bhkv,hvd->bhkd", v, w.to(v.dtype)) for v, w in zip(values, maps.maps, strict=True)]
    if len(moved) == 1:
        return weights[0].abs() * moved[0].norm(dim=-1)[:, :, None]
    # ‖Σ_c p_c u_c‖² = Σ_cd p_c p_d u_c·u_d, so that no vector is formed for each query and key.
    squares = torch.stack(
        [
            p * other_p * (u * other_u).sum(-1)[:, :, None]
            for p, u in zip(weights, moved, strict=True)
            for other_p, other_u in zip(weights, moved, strict=True)
        ]
    )
    return squares.sum(0).clamp(min=0).sqrt()


def values_of(call: AttendCall) -> Float[Tensor, "batch heads key value_dim"]:
    """v of `call` for each query head, in float32 or better."""
    v = call.v.detach()
    return repeat_heads(v.to(torch.promote_types(v.dtype, torch.float32)), call.q.shape[1])
