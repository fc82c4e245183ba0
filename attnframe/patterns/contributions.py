"""What a key adds to an embedding: the norm of its part of ΔE, beside the weight that it gets.

Reference: Kobayashi et al. 2020, "Attention is Not Only a Weight: Analyzing Transformers with Vector Norms", section 3,
https://arxiv.org/abs/2004.10102. A key with a large weight adds little where its value is short.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from attnframe.attention import AttendCall
from attnframe.backends.eager import repeat_heads
from attnframe.patterns.head_maps import OutputMaps


@dataclass(frozen=True)
class Contributions:
    """Norms of what each key adds to ΔE of each query.

    - `by_head`: ‖P_ij·V_j·W_O‖ of each head.
    - `together`: ‖Σ_h P_ij·V_j·W_O‖, of all heads of the layer: what they add may point apart and cancel.
    """

    by_head: Float[Tensor, "batch heads query key"]
    together: Float[Tensor, "batch query key"]


def contributions(
    weights: Sequence[Float[Tensor, "batch heads query key"]],
    values: Sequence[Float[Tensor, "batch heads key value_dim"]],
    maps: OutputMaps,
) -> Contributions:
    """Of a module with the output maps W, from the weights P and the values V of each `attend` call of a forward.

    Mostly there is one call; what several add for a key is summed before the norm is taken. The bias of ΔE belongs to
    no key and is left out; one of V is in it.
    """
    moved = [torch.einsum("bhkv,hvd->bhkd", v, w.to(v.dtype)) for v, w in zip(values, maps.maps, strict=True)]
    by_head = _norm_of_sum(weights, moved)
    heads = [p for of_call in weights for p in of_call.unbind(1)]
    vectors = [u for of_call in moved for u in of_call.unbind(1)]
    return Contributions(by_head, _norm_of_sum(heads, vectors) if len(heads) > 1 else by_head[:, 0])


def _norm_of_sum(
    weights: Sequence[Float[Tensor, "*batch query key"]], vectors: Sequence[Float[Tensor, "*batch key d_model"]]
) -> Float[Tensor, "*batch query key"]:
    """‖Σ_n p_nij·u_nj‖ for each query i and key j."""
    if len(vectors) == 1:
        return weights[0].abs() * vectors[0].norm(dim=-1)[..., None, :]
    # ‖Σ_n p_n u_n‖² = Σ_nm p_n p_m u_n·u_m, so that no vector is formed for each query and key. In float64, for the sum
    # is small where the vectors nearly cancel.
    wide_weights, wide_vectors = [p.double() for p in weights], [u.double() for u in vectors]
    square = torch.zeros_like(wide_weights[0])
    for p, u in zip(wide_weights, wide_vectors, strict=True):
        for other_p, other_u in zip(wide_weights, wide_vectors, strict=True):
            square += p * other_p * (u * other_u).sum(-1)[..., None, :]
    return square.clamp(min=0).sqrt().to(weights[0].dtype)


def values_of(call: AttendCall) -> Float[Tensor, "batch heads key value_dim"]:
    """v of `call` for each query head, in float32 or better."""
    v = call.v.detach()
    return repeat_heads(v.to(torch.promote_types(v.dtype, torch.float32)), call.q.shape[1])
