"""What every variant can be given between its projections and its softmax: RoPE, QK-norm, a soft cap on the scores."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from attnframe.attention.functional import rotate
from attnframe.attention.mask import Mask
from attnframe.attention.norms import RMSNorm
from attnframe.backends import ScoreMod, Softcap, chained
from attnframe.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float


class Scoring(nn.Module):
    """What `Attention.attend` does to q, k and the scores before anything else, in this order:

    - `qk_norm`: q and k of each head are divided by their root mean square and multiplied by a learned gain for each
      dimension, as in Qwen3 (Yang et al. 2025, section 2, https://arxiv.org/abs/2505.09388; Henry et al. 2020,
      https://arxiv.org/abs/2010.04245, divide by the length instead).
    - `rope`: both are turned by their position (`functional.rotate`); `rope_base` is the paper's 10,000. At a site
      whose queries and keys are different sequences the positions are those in each.
    - `softcap`: score -> softcap·tanh(score / softcap), before a score_mod, as in Gemma 2 (Gemma Team 2024, section 2,
      https://arxiv.org/abs/2408.00118).

    `head_dim` is that of q and k. Raises `UserError` for what these cannot be.
    """

    def __init__(self, head_dim: int, *, rope: bool, rope_base: float, qk_norm: bool, softcap: float | None) -> None:
        super().__init__()
        if rope and head_dim % 2:
            raise UserError(f"rope=true turns pairs of dimensions, and head_dim={head_dim} is odd")
        if not 1 < rope_base < math.inf:
            raise UserError(f"rope_base={rope_base:g} must be a number above 1")
        if softcap is not None and not 0 < softcap < math.inf:
            raise UserError(f"softcap={softcap:g} must be a number above 0, or null for none")
        self.rope_base = rope_base if rope else None
        self.softcap = softcap
        self.query_norm = RMSNorm(head_dim) if qk_norm else None
        self.key_norm = RMSNorm(head_dim) if qk_norm else None

    def forward(
        self,
        q: Float[Tensor, "batch heads query head_dim"],
        k: Float[Tensor, "batch key_heads key head_dim"],
        mask: Mask,
    ) -> tuple[Tensor, Tensor]:
        """q and k as they are multiplied; with a cache `k` may hold the new keys alone."""
        if self.query_norm is not None and self.key_norm is not None:
            q, k = self.query_norm(q), self.key_norm(k)
        if self.rope_base is not None:
            first = mask.query_offset
            q = rotate(q, torch.arange(first, first + q.shape[2], device=q.device), base=self.rope_base)
            # The mask knows how many keys there are, so the first of those given is as many places before its end.
            last = mask.shape[2]
            k = rotate(k, torch.arange(last - k.shape[2], last, device=k.device), base=self.rope_base)
        return q, k

    def capped(self, score_mod: ScoreMod | None) -> ScoreMod | None:
        """`score_mod` behind the soft cap."""
        return score_mod if self.softcap is None else chained(Softcap(self.softcap), score_mod)
