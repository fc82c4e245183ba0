"""Plain matrix products and a softmax: the definition of correct. Runs everything, keeps [query, key] in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from attnframe.backends.base import Backend, MaskMod, Normaliser, Request, ScoreMod
from attnframe.backends.scores import dense_scores, repeat_heads

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from attnframe.attention.mask import Mask

__all__ = ["Eager", "attention_weights", "masked_softmax", "repeat_heads"]


class Eager(Backend):
    """softmax(QKᵀ·scale)V step by step (Vaswani et al. 2017, section 3.2.1, https://arxiv.org/abs/1706.03762)."""

    name = "eager"

    def unsupported(self, request: Request) -> list[str]:
        return []

    def attend(
        self,
        q: Float[Tensor, "batch heads query head_dim"],
        k: Float[Tensor, "batch key_heads key head_dim"],
        v: Float[Tensor, "batch key_heads key value_dim"],
        mask: Mask,
        *,
        scale: float,
        dropout: float,
        score_mod: ScoreMod | None,
        mask_mod: MaskMod | None,
        normaliser: Normaliser | None,
    ) -> Float[Tensor, "batch heads query value_dim"]:
        weights = attention_weights(
            q, k, mask, scale=scale, score_mod=score_mod, mask_mod=mask_mod, normaliser=normaliser
        )
        # A score_mod may compute in a wider type than the embeddings have.
        return F.dropout(weights, dropout).to(v.dtype) @ repeat_heads(v, q.shape[1])


def attention_weights(
    q: Float[Tensor, "batch heads query head_dim"],
    k: Float[Tensor, "batch key_heads key head_dim"],
    mask: Mask,
    *,
    scale: float,
    score_mod: ScoreMod | None = None,
    mask_mod: MaskMod | None = None,
    normaliser: Normaliser | None = None,
) -> Float[Tensor, "batch heads query key"]:
    """The pattern: each row sums to 1, or to 0 where the query may attend to nothing, unless `normaliser` differs."""
    scores, keep = dense_scores(q, k, mask, scale=scale, score_mod=score_mod, mask_mod=mask_mod)
    if normaliser is None:
        return masked_softmax(scores, keep)
    keep = keep & (scores != -torch.inf)
    # What a hidden key scores is nobody's business, and where it is infinite the gradient of a square or a product
    # with it would be NaN.
    return normaliser(scores.masked_fill(~keep, 0.0), keep).masked_fill(~keep, 0.0)


def masked_softmax(
    scores: Float[Tensor, "*batch query key"], keep: Bool[Tensor, "*#batch query key"]
) -> Float[Tensor, "*batch query key"]:
    """Softmax over the keys where `keep` is True and the score is not -inf.

    A row that keeps no key is all zeros, and its gradients are finite.
    """
    # A finite fill and a second masking: softmax over a row of -inf would be NaN, and so would its gradient.
    keep = keep & (scores != -torch.inf)
    lowest = torch.finfo(scores.dtype).min
    return scores.masked_fill(~keep, lowest).softmax(dim=-1).masked_fill(~keep, 0.0)
