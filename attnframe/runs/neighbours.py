"""The nearest tokens of an embedding: what in the vocabulary points the same way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attnframe.data.tokenizer import SPECIAL_TOKENS, Tokenizer


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A token of the vocabulary by its id and label (`Tokenizer.label`), and its cosine with the embedding, -1 to 1."""

    id: int
    label: str
    cosine: float


def nearest_tokens(
    embeddings: Float[Tensor, "tokens d_model"],
    table: Float[Tensor, "vocab d_model"],
    tokenizer: Tokenizer,
    count: int,
) -> list[tuple[Neighbour, ...]]:
    """For each embedding the `count` rows of the token embedding `table` with the largest cosine, the largest first.

    The special tokens are left out, for they stand for no text. Of equal ones the lower id comes first. An embedding
    that is not finite has no neighbours, and a row that is not finite is nobody's.
    """
    wide = torch.promote_types(table.dtype, torch.float32)
    words = F.normalize(table[len(SPECIAL_TOKENS) :].detach().to(wide), dim=-1)
    cosines = F.normalize(embeddings.detach().to(wide), dim=-1) @ words.T
    known = cosines.isfinite()
    order = cosines.masked_fill(~known, -torch.inf).sort(dim=-1, descending=True, stable=True).indices[:, :count]
    return [
        tuple(
            Neighbour(index + len(SPECIAL_TOKENS), tokenizer.label(index + len(SPECIAL_TOKENS)), row[index].item())
            for index in best
            if is_known[index]
        )
        for best, row, is_known in zip(order.tolist(), cosines, known, strict=True)
    ]
