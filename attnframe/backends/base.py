"""What a backend is asked and what it answers."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool, Float

    from attnframe.attention.mask import Mask
    from attnframe.backends.row_statistics import RowStatistics

ScoreMod = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]
"""``score_mod(score, batch, head, q_idx, kv_idx) -> score`` as in FlexAttention
(https://docs.pytorch.org/docs/stable/nn.attention.flex_attention.html). The arguments broadcast to
[batch, heads, query, key]; `q_idx` is the position in the sequence, so it counts on across cached decoding."""

MaskMod = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""``mask_mod(batch, head, q_idx, kv_idx) -> Bool``, True where the query may attend; the same indices."""

Normaliser = Callable[[Tensor, Tensor], Tensor]
"""``normaliser(scores, keep) -> weights`` in the place of the softmax over the keys. `scores` and weights are [batch,
heads, query, key]; `keep` is Bool, broadcasts to that, and is True where the query may attend and the score is not
-inf. Other keys have the score 0, and what it gives to them is taken for 0."""


@dataclass(frozen=True)
class Request:
    """One kind of call that a module makes: what a backend needs to know before it says whether it can run it."""

    device: str
    dtype: torch.dtype
    heads: int
    key_heads: int
    head_dim: int
    value_dim: int
    dropout: float = 0.0
    score_mod: tuple[str, ...] = ()
    """What happens to the scores, in order: `score_mods.kinds`."""
    mask_mod: bool = False
    normaliser: bool = False
    trains: bool = False
    """Whether gradients are wanted."""


class Backend(abc.ABC):
    """One way to compute attention. Stateless."""

    name: str

    only_by_name: str = ""
    """Why `auto` never takes it, a sentence; empty where it does."""

    @abc.abstractmethod
    def unsupported(self, request: Request) -> list[str]:
        """Why this backend cannot run `request`, a sentence each; empty when it can."""

    @abc.abstractmethod
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
        """softmax(score_mod(q·kᵀ·scale) where allowed)·v, or what `normaliser` makes of the scores times v.

        `dropout` acts on the weights (0 outside training). `key_heads` divides `heads`: consecutive query heads share
        a key head. A query that may attend to nothing gets zeros and sends finite gradients.
        """

    def attend_with_statistics(
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
    ) -> tuple[Float[Tensor, "batch heads query value_dim"], RowStatistics]:
        """What `attend` returns with the softmax, to the bit, and the statistics of the softmax's rows.

        Unless a backend has them from its kernel they are computed beside it, from scores that are formed in full.
        """
        # Here, for that file knows the types of this one.
        from attnframe.backends.row_statistics import row_statistics

        output = self.attend(
            q, k, v, mask, scale=scale, dropout=dropout, score_mod=score_mod, mask_mod=mask_mod, normaliser=None
        )
        return output, row_statistics(q, k, mask, scale=scale, score_mod=score_mod, mask_mod=mask_mod)


def index_grid(scores_shape: torch.Size, query_offset: int, device: torch.device) -> tuple[Tensor, ...]:
    """(batch, head, q_idx, kv_idx) for score_mod and mask_mod, broadcasting to `scores_shape`."""
    batch, heads, queries, keys = scores_shape
    return (
        torch.arange(batch, device=device)[:, None, None, None],
        torch.arange(heads, device=device)[:, None, None],
        torch.arange(query_offset, query_offset + queries, device=device)[:, None],
        torch.arange(keys, device=device),
    )


def allowed(
    mask: Mask, mask_mod: MaskMod | None, scores_shape: torch.Size, device: torch.device
) -> Bool[Tensor, "*#batch query key"]:
    """Where attention is allowed by the mask and, if given, by `mask_mod` too."""
    keep = mask.dense()
    if mask_mod is not None:
        keep = keep & mask_mod(*index_grid(scores_shape, mask.query_offset, device))
    return keep
