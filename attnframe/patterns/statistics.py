"""Statistics of attention patterns, head by head: how sharp, how far, how diagonal, on which keys, how alike.

Two rules hold everywhere. A row is read as shares: |weights| over the kept keys, divided by their sum; of a probability
pattern that is the row itself. And a mean is over the rows that count, of all sentences alike: those of kept queries
with any weight at all, for a query that may attend to nothing has no statistics. A mean over no row is NaN, and NaN
weights of a row that counts make their head NaN.

`weights` are [*batch, heads, query, key] with any number of batch dimensions, none included. `query_keep` and
`key_keep` are True at real tokens, by default everywhere; positions count kept tokens only, so that padding changes
nothing, on either side. Arithmetic is in float32 or better. ValueError is raised for masks that do not fit the weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attnframe.attention import PatternKind
from attnframe.patterns.pattern import Pattern

# Sites whose queries may not attend to later keys; there, uniform attention is uniform over the keys so far.
CAUSAL_SITES = {"decoder_self"}

Keep = tuple[Bool[Tensor, "*batch query"] | None, Bool[Tensor, "*batch key"] | None]
"""Which queries and which keys are no padding; None where none is."""


@dataclass(frozen=True, slots=True)
class HeadStatistics:
    """One head in numbers, a row of a flat table: means over its `rows`. `layer` and `head` are counted from 0.

    Entropy, effective support and largest weight say something of probabilities only; of any other kind of pattern they
    are NaN, and the rest is of shares of |weights|.
    """

    site: str
    layer: int
    head: int
    kind: PatternKind
    rows: int
    """How many rows count. Without any, the numbers below are NaN."""
    entropy: float
    """Of a row, in nats: `row_entropy`."""
    effective_support: float
    """exp(entropy) of a row, in keys: k where k keys share the weight evenly (Hill 1973's diversity of order 1,
    https://doi.org/10.2307/1934352)."""
    largest_weight: float
    """Of a row, 0 to 1; its mean is the confidence of a head (Voita et al. 2019, https://arxiv.org/abs/1905.09418,
    who leave EOS out)."""
    mean_distance: float
    """From the diagonal, in keys: `row_distance`."""
    diagonality: float
    """1 on the diagonal, 0 as far from it as uniform attention: `diagonality`."""
    first_key_mass: float
    """Share on the first key: BOS in `decoder_self`, the first word elsewhere. Where it is large without meaning, an
    attention sink (Xiao et al. 2023, section 3.1, https://arxiv.org/abs/2309.17453)."""
    last_key_mass: float
    """Share on the last key: EOS in `encoder_self` and `cross`; in `decoder_self` only the last row sees it."""


def head_statistics(
    patterns: Mapping[tuple[str, int], Pattern],
    keep: Mapping[str, Keep] | None = None,
) -> list[HeadStatistics]:
    """A row for each head of each (site, layer), in the order of `patterns`.

    Takes what `record_patterns` yields, [batch, heads, query, key], and the patterns of one sentence, [heads, query,
    key]: whole sequences, not single steps of cached decoding. `keep` holds by site (`query_keep`, `key_keep`); a site
    that it leaves out has no padding. At `decoder_self` diagonality is measured against causal uniform attention.
    """
    table = []
    for (site, layer), pattern in patterns.items():
        query_keep, key_keep = (keep or {}).get(site, (None, None))
        causal = site in CAUSAL_SITES
        shares, counted = _shares(pattern.weights, query_keep, key_keep)
        position = _positions(_kept(pattern.weights, key_keep, -1))[..., None, None, :]
        entropy = row_entropy(shares)
        of_probabilities = [entropy, entropy.exp(), shares.amax(-1)]
        if pattern.kind is not PatternKind.PROBABILITY:
            of_probabilities = [torch.full_like(entropy, math.nan)] * 3
        columns = [
            *(_mean(rows, counted) for rows in of_probabilities),
            _mean(row_distance(pattern.weights, query_keep, key_keep), counted),
            diagonality(pattern.weights, query_keep, key_keep, causal=causal),
            _mean(shares.where(position == 0, 0.0).sum(-1), counted),
            _mean(shares.where(position == position.amax(-1, keepdim=True), 0.0).sum(-1), counted),
        ]
        num_rows = _by_head(counted).sum(-1).tolist()
        for head, values in enumerate(torch.stack(columns, dim=-1).tolist()):
            table.append(HeadStatistics(site, layer, head, pattern.kind, num_rows[head], *values))
    return table


def row_entropy(weights: Float[Tensor, "*rows key"]) -> Float[Tensor, "*rows"]:
    """-Σ p ln p of each row's shares p, in nats: 0 on one key, ln k evenly on k keys; NaN of a row without weight.

    For weights that are not negative. Averaged over rows, the entropy of a head as in Clark et al. 2019, section 3.3,
    https://arxiv.org/abs/1906.04341.
    """
    weights = _widened(weights)
    return torch.special.entr(weights / weights.sum(-1, keepdim=True)).sum(-1)


def row_distance(
    weights: Float[Tensor, "*batch heads query key"],
    query_keep: Bool[Tensor, "*batch query"] | None = None,
    key_keep: Bool[Tensor, "*batch key"] | None = None,
) -> Float[Tensor, "*batch heads query"]:
    """How far from the diagonal a row attends on average, in keys; NaN of a row without weight.

    The diagonal runs from the first query and key to the last, so that query i of n faces key i (m - 1) / (n - 1) of m,
    as in `patterns.alignment.diagonal_links`; a lone query faces key 0. In self-attention n = m and the distance is
    |i - j|, the attention distance of Vig & Belinkov 2019, https://arxiv.org/abs/1906.04284.
    """
    shares, _ = _shares(weights, query_keep, key_keep)
    return (shares * _diagonal_distance(weights, query_keep, key_keep)).sum(-1)


def diagonality(
    weights: Float[Tensor, "*batch heads query key"],
    query_keep: Bool[Tensor, "*batch query"] | None = None,
    key_keep: Bool[Tensor, "*batch key"] | None = None,
    *,
    causal: bool = False,
) -> Float[Tensor, " heads"]:
    """1 - D / U for each head: 1 where all weight is on the diagonal, 0 for uniform attention, negative farther away.

    D is the mean of `row_distance` over the rows that count and U the same of uniform attention over the kept keys,
    with `causal` over those not after the query. Zhang et al. 2020, https://arxiv.org/abs/2011.04906, scale each row by
    its largest possible distance instead; then what a uniform head gets depends on the length. 1 is reached where
    every query faces a key exactly, that is where n - 1 divides m - 1. NaN where U is 0, as with one key.
    """
    _, counted = _shares(weights, query_keep, key_keep)
    distance = _diagonal_distance(weights, query_keep, key_keep)
    allowed = _kept(weights, key_keep, -1)[..., None, None, :].expand_as(distance)
    if causal:
        key_position = _positions(_kept(weights, key_keep, -1))[..., None, None, :]
        allowed = allowed & (key_position <= _positions(_kept(weights, query_keep, -2))[..., None, :, None])
    uniform = distance.where(allowed, 0.0).sum(-1) / allowed.sum(-1)
    by_chance = _mean(uniform.expand_as(counted), counted)
    return 1 - _mean(row_distance(weights, query_keep, key_keep), counted) / by_chance.where(by_chance > 0, math.nan)


def received_mass(
    weights: Float[Tensor, "*batch heads query key"],
    query_keep: Bool[Tensor, "*batch query"] | None = None,
    key_keep: Bool[Tensor, "*batch key"] | None = None,
) -> Float[Tensor, "*batch heads key"]:
    """The share that each key gets of its sentence's rows that count: column means, which sum to 1 over the keys.

    0 for a key that is not kept, NaN throughout where no row counts. Under a causal mask late keys are open to few
    queries and get less for that alone.
    """
    shares, counted = _shares(weights, query_keep, key_keep)
    return shares.where(counted[..., None], 0.0).sum(-2) / counted.sum(-1, keepdim=True)


def head_similarity(
    weights: Float[Tensor, "*batch heads query key"],
    query_keep: Bool[Tensor, "*batch query"] | None = None,
    key_keep: Bool[Tensor, "*batch key"] | None = None,
) -> Float[Tensor, "heads heads"]:
    """How alike two heads attend: the mean over rows of 1 - JSD in bits, 1 for equal rows, 0 for rows without overlap.

    JSD(p, q) = H((p + q) / 2) - (H(p) + H(q)) / 2 is the Jensen-Shannon divergence; the sum of it is the distance
    between heads of Clark et al. 2019, section 6, https://arxiv.org/abs/1906.04341. The rows of a pair are those that
    count in both heads. Symmetric.
    """
    shares, counted = _shares(weights, query_keep, key_keep)
    entropy = row_entropy(shares)
    similarities = []
    for head in range(shares.shape[-3]):
        one = slice(head, head + 1)
        mixed = row_entropy((shares + shares[..., one, :, :]) / 2)
        # Rounding may take the divergence of equal rows below 0.
        divergence = (mixed - (entropy + entropy[..., one, :]) / 2).clamp(min=0) / math.log(2)
        similarities.append(_mean(1 - divergence, counted & counted[..., one, :]))
    return torch.stack(similarities)


def _shares(
    weights: Tensor, query_keep: Tensor | None, key_keep: Tensor | None
) -> tuple[Float[Tensor, "*batch heads query key"], Bool[Tensor, "*batch heads query"]]:
    """The rows as shares, and which of them count."""
    kept_weights = _widened(weights).abs().where(_kept(weights, key_keep, -1)[..., None, None, :], 0.0)
    total = kept_weights.sum(-1, keepdim=True)
    # NaN counts: a head that has diverged must not look like one that may attend to nothing.
    counted = (total[..., 0] != 0) & _kept(weights, query_keep, -2)[..., None, :]
    return kept_weights / total, counted


def _widened(weights: Tensor) -> Tensor:
    return weights.to(torch.promote_types(weights.dtype, torch.float32))


def _kept(weights: Tensor, keep: Tensor | None, axis: int) -> Bool[Tensor, "*batch length"]:
    """`keep` of the queries (axis -2) or the keys (axis -1) of `weights`, spelt out."""
    if weights.dim() < 3 or weights.shape[-1] == 0:
        raise ValueError(f"weights of shape {tuple(weights.shape)} are not [*batch, heads, query, key] with a key")
    shape = (*weights.shape[:-3], weights.shape[axis])
    if keep is None:
        return torch.ones(shape, dtype=torch.bool, device=weights.device)
    if keep.shape != shape or keep.dtype != torch.bool:
        name = "key_keep" if axis == -1 else "query_keep"
        raise ValueError(
            f"{name} is {keep.dtype} of shape {tuple(keep.shape)}; weights of shape {tuple(weights.shape)} "
            f"need torch.bool of shape {shape}"
        )
    return keep.to(weights.device)


def _positions(keep: Bool[Tensor, "*batch length"]) -> Tensor:
    """The place of each kept token among the kept ones, from 0."""
    return keep.cumsum(-1) - 1


def _diagonal_distance(
    weights: Tensor, query_keep: Tensor | None, key_keep: Tensor | None
) -> Float[Tensor, "*batch 1 query key"]:
    queries, keys = _kept(weights, query_keep, -2), _kept(weights, key_keep, -1)
    last_query, last_key = (keep.sum(-1, keepdim=True) - 1 for keep in (queries, keys))
    dtype = torch.promote_types(weights.dtype, torch.float32)
    facing = (_positions(queries) * last_key).to(dtype) / last_query.clamp(min=1)
    return (facing[..., None, :, None] - _positions(keys)[..., None, None, :]).abs()


def _by_head(rows: Tensor) -> Tensor:
    """[*batch, heads, query] -> [heads, rows of all sentences]."""
    return rows.movedim(-2, 0).flatten(1)


def _mean(rows: Float[Tensor, "*batch heads query"], counted: Bool[Tensor, "*batch heads query"]) -> Tensor:
    """[heads]: the mean over the rows that count."""
    return _by_head(rows.where(counted, 0.0)).sum(-1) / _by_head(counted).sum(-1)
