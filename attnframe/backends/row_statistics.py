"""What a softmax says of each query: log-sum-exp, greatest score and entropy, from scores that are formed in full."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F

from attnframe.backends.base import MaskMod, ScoreMod
from attnframe.backends.scores import dense_scores

if TYPE_CHECKING:
    from jaxtyping import Float

    from attnframe.attention.mask import Mask


@dataclass(frozen=True)
class RowStatistics:
    """Of each row of scores, scaled, modified and masked, in nats, in float32 or better.

    A query that may attend to nothing has `lse` and `max_score` -inf and `entropy` 0, and sends no gradient.
    """

    lse: Float[Tensor, "batch heads query"]
    """ln Σ e^score over the keys; differentiable."""
    max_score: Float[Tensor, "batch heads query"]
    """The greatest score; without a gradient."""
    entropy: Float[Tensor, "batch heads query"]
    """-Σ p ln p of the weights p before dropout; differentiable."""

    def detached(self) -> RowStatistics:
        """The same without gradients."""
        return RowStatistics(self.lse.detach(), self.max_score, self.entropy.detach())


def row_statistics(
    q: Float[Tensor, "batch heads query head_dim"],
    k: Float[Tensor, "batch key_heads key head_dim"],
    mask: Mask,
    *,
    scale: float,
    score_mod: ScoreMod | None = None,
    mask_mod: MaskMod | None = None,
) -> RowStatistics:
    """The statistics of the rows that `Backend.attend` takes the softmax of, in memory of [query, key]."""
    # A sum of many terms, and the difference of its logarithm and a mean, have no decimals left in half precision.
    wide = torch.promote_types(q.dtype, torch.float32)
    with torch.autocast(q.device.type, enabled=False):
        scores, keep = dense_scores(q.to(wide), k.to(wide), mask, scale=scale, score_mod=score_mod, mask_mod=mask_mod)
        keep = keep & (scores != -torch.inf)
        if scores.shape[-1] == 0:
            # There is no greatest of nothing: one key that is hidden says the same.
            scores, keep = F.pad(scores, (0, 1)), F.pad(keep, (0, 1), value=False)
        return _of_rows(scores, keep)


def _of_rows(scores: Tensor, keep: Tensor) -> RowStatistics:
    nothing = ~keep.any(dim=-1)
    highest = scores.detach().masked_fill(~keep, -torch.inf).amax(dim=-1)
    # What is hidden, and what has no greatest score, is kept out of the graph: its gradients would be 0·inf.
    shifted = (scores - highest.masked_fill(nothing, 0.0)[..., None]).masked_fill(~keep, 0.0)
    powers = shifted.exp().masked_fill(~keep, 0.0)
    total = powers.sum(dim=-1).masked_fill(nothing, 1.0)
    log_total = total.log()
    # From differences to the greatest score: ln Σ e^s - Σ p s would cancel where scores are large.
    entropy = log_total - (powers * shifted).sum(dim=-1) / total
    return RowStatistics(highest + log_total, highest, entropy)
