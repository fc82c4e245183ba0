"""Statistics of every head of a model over some sentences: of recorded patterns, or of long ones summed up."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence

import torch

from attnframe.attention import undisturbed
from attnframe.data.batching import Batch
from attnframe.data.schema import SentencePair
from attnframe.model import SITES, Seq2Seq
from attnframe.patterns import record_patterns
from attnframe.patterns.reduced_statistics import ReducedPatterns, record_statistics
from attnframe.patterns.statistics import HeadStatistics, Keep, head_statistics
from attnframe.training.data_module import TranslationData

# Weights of a head that are held at once, padding counted: a hundred sentences of 72 tokens, or thirteen of 200.
_MOST_HELD = 2**19

# Weights of a head that are summed up without being held, which costs time only: fifty sentences of 200 tokens.
_MOST_SUMMED = 2**21


@torch.no_grad()
def recorded_statistics(
    model: Seq2Seq, data: TranslationData, pairs: Sequence[SentencePair]
) -> tuple[list[HeadStatistics], Mapping[tuple[str, int], str]]:
    """`head_statistics` over the first pairs, by site and layer; all of them, unless they are long.

    Patterns that would be too large to hold are summed up (`patterns.reduced_statistics`), over as many pairs as a
    validation has time for. What cannot be summed up, no softmax of one `attend`, is recorded over fewer of them. At
    least one pair there is always.

    Beside them why a (site, layer) has no pattern, and so no heads in the table (`patterns.Patterns.missing`).
    """
    held, are_all = _first(data, pairs, _MOST_HELD)
    if are_all:
        return _of_recorded(model, _batch(model, data, held), SITES)
    reduced = _summed_up(model, _batch(model, data, _first(data, pairs, _MOST_SUMMED)[0]))
    if not reduced.missing:
        return reduced.heads, {}
    sites = {site for site, _ in reduced.missing}
    recorded, missing = _of_recorded(model, _batch(model, data, held), sites)
    others = [row for row in recorded if (row.site, row.layer) in reduced.missing]
    return sorted([*reduced.heads, *others], key=lambda row: (row.site, row.layer, row.head)), missing


def _first(
    data: TranslationData, pairs: Sequence[SentencePair], most_weights: int
) -> tuple[Sequence[SentencePair], bool]:
    """As many of the first pairs as have no more weights in a batch, but one in any case; and whether all have."""
    examples = data.encode(pairs)
    # One more for BOS or EOS.
    longest = itertools.accumulate((1 + max(len(e.src_ids), len(e.tgt_ids)) for e in examples), max)
    fitting = sum(count * length**2 <= most_weights for count, length in enumerate(longest, start=1))
    return pairs[: max(1, fitting)], fitting == len(pairs)


def _batch(model: Seq2Seq, data: TranslationData, pairs: Sequence[SentencePair]) -> Batch:
    return data.batch(pairs).to(next(model.parameters()).device)


def _of_recorded(
    model: Seq2Seq, batch: Batch, sites: Collection[str]
) -> tuple[list[HeadStatistics], Mapping[tuple[str, int], str]]:
    with undisturbed(model), record_patterns(model, sites=sites, max_bytes=None) as patterns:
        model(batch.src, batch.src_keep, batch.tgt_in)
    return head_statistics(patterns, _keep(batch)), patterns.missing


def _summed_up(model: Seq2Seq, batch: Batch) -> ReducedPatterns:
    with undisturbed(model), record_statistics(model, sites=SITES, keep=_keep(batch)) as reduced:
        model(batch.src, batch.src_keep, batch.tgt_in)
    return reduced


def _keep(batch: Batch) -> dict[str, Keep]:
    return {
        "encoder_self": (batch.src_keep, batch.src_keep),
        "decoder_self": (batch.tgt_keep, batch.tgt_keep),
        "cross": (batch.tgt_keep, batch.src_keep),
    }
