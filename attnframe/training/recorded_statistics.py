"""Statistics of every head of a model over some sentences: of recorded patterns, or of one too long for that."""

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

# Weights of a head that are held at once, padding too: a hundred sentences of 72 tokens, thirteen of 200, none of 725.
_MOST_HELD = 2**19


@torch.no_grad()
def recorded_statistics(
    model: Seq2Seq, data: TranslationData, pairs: Sequence[SentencePair]
) -> tuple[list[HeadStatistics], Mapping[tuple[str, int], str]]:
    """`head_statistics` by site and layer, over as many of the first pairs as may be held at once, in one forward.

    There is always one pair. If that is too long for its patterns to be held, they are summed up
    (`patterns.reduced_statistics`), but for those that are no softmax of one `attend`.

    Beside them why a (site, layer) has no pattern, and so no heads in the table (`patterns.Patterns.missing`).
    """
    fitting = _fitting(data, pairs)
    batch = data.batch(pairs[: max(1, fitting)]).to(next(model.parameters()).device)
    if fitting:
        return _of_recorded(model, batch, SITES)
    reduced = _summed_up(model, batch)
    if not reduced.missing:
        return reduced.heads, {}
    recorded, missing = _of_recorded(model, batch, {site for site, _ in reduced.missing})
    others = [row for row in recorded if (row.site, row.layer) in reduced.missing]
    return sorted([*reduced.heads, *others], key=lambda row: (row.site, row.layer, row.head)), missing


def _fitting(data: TranslationData, pairs: Sequence[SentencePair]) -> int:
    """How many of the first pairs may be held at once."""
    examples = data.encode(pairs)
    # One more for BOS or EOS.
    longest = itertools.accumulate((1 + max(len(e.src_ids), len(e.tgt_ids)) for e in examples), max)
    return sum(count * length**2 <= _MOST_HELD for count, length in enumerate(longest, start=1))


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
