"""Losses on the rows of attention: their entropy, and the square of their log-sum-exp."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnframe.attention import RecordedRows
from attnframe.backends import RowStatistics
from attnframe.data.batching import Batch
from attnframe.errors import UserError
from attnframe.training.world import ALONE, World


class RowLosses(NamedTuple):
    """Means over the real rows of every head of every `attend` call; without a row both are 0."""

    entropy: Float[Tensor, ""]
    """In nats. What it does to a training when it falls to 0: Zhai et al. 2023, section 3,
    https://arxiv.org/abs/2303.06296."""
    z_loss: Float[Tensor, ""]
    """The mean of LSE². For the scores of a router: Zoph et al. 2022, section 3.3, https://arxiv.org/abs/2202.08906;
    for the logits of a model: Chowdhery et al. 2022, section 5, https://arxiv.org/abs/2204.02311."""


def real_rows(batch: Batch) -> dict[str, Bool[Tensor, "batch query"]]:
    """By site which queries are tokens, and not padding."""
    # A process for which a batch has no sentence is given one without targets: its source counts elsewhere.
    src_keep = batch.src_keep & batch.tgt_keep.any(dim=1, keepdim=True)
    return {"encoder_self": src_keep, "decoder_self": batch.tgt_keep, "cross": batch.tgt_keep}


def row_losses(rows: RecordedRows, real: Mapping[str, Bool[Tensor, "batch query"]], world: World = ALONE) -> RowLosses:
    """The losses on `rows`, of which `real` says by site which count; rows that may attend to nothing never do.

    In a `world` of several processes the mean of theirs, and of their gradients, is that over the rows of all; each
    must call it at the same place. Raises as `counted_rows` does.
    """
    entropies, squares, counts = [], [], []
    for _, statistics, counted in counted_rows(rows, real):
        entropies.append(statistics.entropy.masked_fill(~counted, 0.0).sum())
        # Filled before it is squared: the gradient of a square that is left out would be 0·inf.
        squares.append(statistics.lse.masked_fill(~counted, 0.0).square().sum())
        counts.append(counted.sum())
    count = world.total(torch.stack(counts).sum()).clamp(min=1)
    # A count that is divided first is a float32, whatever the losses are.
    entropy, z_loss = (torch.stack(sums).sum() * world.size / count for sums in (entropies, squares))
    return RowLosses(entropy, z_loss)


def counted_rows(
    rows: RecordedRows, real: Mapping[str, Bool[Tensor, "batch query"]]
) -> Iterator[tuple[tuple[str, int, int], RowStatistics, Bool[Tensor, "batch heads query"]]]:
    """((site, layer, number of the `attend` call), statistics, which rows are a token's and may attend to anything).

    A site that `real` does not name is left out: attention inside a variant has none. Raises `UserError` where a site
    has other rows than tokens.
    """
    for (site, layer), calls in rows.items():
        if site not in real:
            continue
        for number, statistics in enumerate(calls):
            batch, _, queries = statistics.lse.shape
            if (batch, queries) != tuple(real[site].shape):
                raise UserError(
                    f"{site} layer {layer + 1} calls attend with {queries} queries in a batch of {batch}, but there "
                    f"are {real[site].shape[1]} tokens in one of {real[site].shape[0]}: which rows are padding is not "
                    f"known"
                )
            yield (site, layer, number), statistics, real[site][:, None] & (statistics.lse.detach() != -torch.inf)
