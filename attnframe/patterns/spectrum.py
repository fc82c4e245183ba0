"""The spectrum of a linear map: how many directions it really uses."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

_SPARE_VECTORS = 8

# Share of a map that its part may lack: what float32 rounds away.
_MISSED = 1e-5


def spectrum(matrix: Float[Tensor, "*maps rows columns"]) -> Float[Tensor, "*maps rank"]:
    """Singular values of each matrix, the largest first; min(rows, columns) of them, in float32 or better.

    Of the product of two thin matrices, such as W_down·W_up of a head of `low_rank_v`, those beyond the rank are 0 but
    for rounding.
    """
    return torch.linalg.svdvals(matrix.detach().to(torch.promote_types(matrix.dtype, torch.float32)))


def low_rank_spectrum(matrix: Float[Tensor, "*maps rows columns"], rank: int) -> Float[Tensor, "*maps values"]:
    """`spectrum` without most of its zeros, and sooner, where no matrix has a rank above `rank`; else `spectrum`.

    What such a matrix makes of more than `rank` random vectors spans all that it can make (Halko, Martinsson & Tropp
    2011, section 1.2, https://arxiv.org/abs/0909.4061), so that it has the singular values of its part in that span.
    Random numbers are the same each time, and those of nobody else.
    """
    vectors = rank + _SPARE_VECTORS
    if vectors >= min(matrix.shape[-2:]):
        return spectrum(matrix)
    wide = matrix.detach().to(torch.promote_types(matrix.dtype, torch.float32))
    probes = torch.randn(matrix.shape[-1], vectors, generator=torch.Generator().manual_seed(0)).to(wide)
    basis, _ = torch.linalg.qr(wide @ probes)
    part = basis.mT @ wide
    missed = torch.linalg.matrix_norm(wide - basis @ part)
    if not (missed <= _MISSED * torch.linalg.matrix_norm(wide)).all():
        return spectrum(matrix)
    return torch.linalg.svdvals(part)


def effective_rank(singular_values: Float[Tensor, "*maps rank"]) -> Float[Tensor, "*maps"]:
    """exp(-Σ p ln p) with p the singular values divided by their sum: k where k directions are used evenly.

    From 1 to the number of values that are not 0; scaling the map changes nothing. Definition 1 of Roy & Vetterli 2007,
    "The effective rank: a measure of effective dimensionality", https://infoscience.epfl.ch/record/110188.
    NaN of the zero map, and of values that are not finite.
    """
    shares = singular_values / singular_values.sum(-1, keepdim=True)
    return torch.special.entr(shares).sum(-1).exp()
