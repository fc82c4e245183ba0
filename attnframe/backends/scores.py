"""Scores as a [query, key] matrix, for whoever forms one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from attnframe.backends.base import MaskMod, ScoreMod, allowed, index_grid

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from attnframe.attention.mask import Mask


def dense_scores(
    q: Float[Tensor, "batch heads query head_dim"],
    k: Float[Tensor, "batch key_heads key head_dim"],
    mask: Mask,
    *,
    scale: float,
    score_mod: ScoreMod | None,
    mask_mod: MaskMod | None,
) -> tuple[Float[Tensor, "batch heads query key"], Bool[Tensor, "*#batch query key"]]:
    """(score_mod(q·kᵀ·scale), where attention is allowed). Hidden scores are there too, and may be anything."""
    # Scaled before the product, which would overflow half precision.
    scores = (q * scale) @ repeat_heads(k, q.shape[1]).transpose(-2, -1)
    if score_mod is not None:
        scores = score_mod(scores, *index_grid(scores.shape, mask.query_offset, q.device))
    return scores, allowed(mask, mask_mod, scores.shape, q.device)


def repeat_heads(x: Float[Tensor, "batch key_heads key dim"], heads: int) -> Float[Tensor, "batch heads key dim"]:
    """Each key head once for every query head that shares it."""
    return x if x.shape[1] == heads else x.repeat_interleave(heads // x.shape[1], dim=1)
