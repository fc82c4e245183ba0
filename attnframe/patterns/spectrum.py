"""The spectrum of a linear map: how many directions it really uses."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def spectrum(matrix: Float[Tensor, "*maps rows columns"]) -> Float[Tensor, "*maps rank"]:
    """Singular values of each matrix, the largest first; min(rows, columns) of them, in float32 or better.

    Of the product of two thin matrices, such as W_down·W_up of a head of `low_rank_v`, those beyond the rank are 0 but
    for rounding.
    """
    return torch.linalg.svdvals(matrix.detach().to(torch.promote_types(matrix.dtype, torch.float32)))


def effective_rank(singular_values: Float[Tensor, "*maps rank"]) -> Float[Tensor, "*maps"]:
    """exp(-Σ p ln p) with p the singular values divided by their sum: k where k directions are used evenly.

    From 1 to the number of values that are not 0; scaling the map changes nothing. Definition 1 of Roy & Vetterli 2007,
    "The effective rank: a measure of effective dimensionality", https://infoscience.epfl.ch/record/110188.
    NaN of the zero map, and of values that are not finite.
    """
    shares = singular_values / singular_values.sum(-1, keepdim=True)
    return torch.special.entr(shares).sum(-1).exp()
