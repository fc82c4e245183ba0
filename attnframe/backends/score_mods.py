"""Score_mods that say what they are: ordinary functions for a backend that runs any, and known to one that is fused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attnframe.backends.base import ScoreMod

if TYPE_CHECKING:
    from jaxtyping import Float

FUNCTION = "function"


# Compared by identity: tensors have no other equality that is one bool.
@dataclass(frozen=True, eq=False)
class Softcap:
    """score -> cap·tanh(score / cap) (Gemma Team 2024, section 2, https://arxiv.org/abs/2408.00118)."""

    cap: float

    @property
    def kind(self) -> str:
        """What `Request.score_mod` calls it."""
        return "softcap"

    def __call__(self, score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return self.cap * torch.tanh(score / self.cap)


@dataclass(frozen=True, eq=False)
class DistanceBias:
    """score -> score - slope·|i - j| of its head (Press et al. 2022, section 3, https://arxiv.org/abs/2108.12409)."""

    slopes: Float[Tensor, " heads"]

    @property
    def kind(self) -> str:
        """What `Request.score_mod` calls it; slopes that are trained make it a function like any other."""
        return FUNCTION if self.slopes.requires_grad else "distance_bias"

    def __call__(self, score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return score - self.slopes[head] * (q_idx - kv_idx).abs()


@dataclass(frozen=True, eq=False)
class KeyBias:
    """score -> score + bias of its key, for every head and query; -inf hides the key. The bias may be trained."""

    bias: Float[Tensor, "batch key"]

    @property
    def kind(self) -> str:
        """What `Request.score_mod` calls it."""
        return "key_bias"

    def __call__(self, score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return score + self.bias[batch, kv_idx]


@dataclass(frozen=True, eq=False)
class Chain:
    """One score_mod after the other."""

    links: tuple[ScoreMod, ...]

    def __call__(self, score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        for link in self.links:
            score = link(score, batch, head, q_idx, kv_idx)
        return score


def chained(*score_mods: ScoreMod | None) -> ScoreMod | None:
    """These in order, but for those that are None, as one; None for none."""
    found = [link for score_mod in score_mods for link in links(score_mod)]
    return Chain(tuple(found)) if len(found) > 1 else next(iter(found), None)


def links(score_mod: ScoreMod | None) -> tuple[ScoreMod, ...]:
    """What it does one after the other, as far as it says."""
    if isinstance(score_mod, Chain):
        return score_mod.links
    return () if score_mod is None else (score_mod,)


def kinds(score_mod: ScoreMod | None) -> tuple[str, ...]:
    """The same for a `Request`: "softcap", "distance_bias", "key_bias", and "function" for what does not say."""
    return tuple(
        link.kind if isinstance(link, (Softcap, DistanceBias, KeyBias)) else FUNCTION for link in links(score_mod)
    )
