"""A corpus's score out of what its sentences add to it, for many weightings of the sentences at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Totals = NDArray[np.float64]
"""Counts of `runs.sentence_statistics`, summed over sentences: [..., counts]."""

LOWER_IS_BETTER = frozenset({"loss", "aer"})

_NGRAM_ORDER = 4
_BETA_SQUARED = 4.0


def corpus_score(measure: str, totals: Totals) -> NDArray[np.float64]:
    """The score of each row of `totals`: BLEU and chrF, from 0 to 100, as sacreBLEU has them, others as a run has."""
    return _SCORES[measure](totals)


def _share(totals: Totals) -> NDArray[np.float64]:
    return _quotient(totals[..., 0], totals[..., 1])


def _bleu(totals: Totals) -> NDArray[np.float64]:
    """sacreBLEU's default: `exp` smoothing, which halves again for each order without a match (Chen & Cherry 2014,
    method 3, https://aclanthology.org/W14-3346)."""
    length, reference_length = totals[..., 0], totals[..., 1]
    correct, there = totals[..., 2 : 2 + _NGRAM_ORDER], totals[..., 2 + _NGRAM_ORDER :]
    unmatched = (correct == 0) & (there > 0)
    smoothed = 0.5 ** np.cumsum(unmatched, axis=-1)
    precisions = _quotient(np.where(unmatched, smoothed, correct), there)
    with np.errstate(divide="ignore"):
        logarithm = np.log(precisions).mean(axis=-1)
    brevity = np.minimum(0.0, 1 - reference_length / np.maximum(length, 1e-9))
    return np.where(correct.any(axis=-1), 100 * np.exp(brevity + logarithm), 0.0)


def _chrf(totals: Totals) -> NDArray[np.float64]:
    """The F2 of precision and recall, each the mean over those n that both sides have (Popović 2015,
    https://aclanthology.org/W15-3049)."""
    said, wanted, both = totals[..., 0::3], totals[..., 1::3], totals[..., 2::3]
    there = (said > 0) & (wanted > 0)
    orders = there.sum(axis=-1)
    precision = _quotient(np.where(there, _quotient(both, said), 0.0).sum(axis=-1), orders)
    recall = _quotient(np.where(there, _quotient(both, wanted), 0.0).sum(axis=-1), orders)
    return 100 * _quotient((1 + _BETA_SQUARED) * precision * recall, _BETA_SQUARED * precision + recall)


def _alignment_error_rate(totals: Totals) -> NDArray[np.float64]:
    """1 - (|A ∩ S| + |A ∩ P|) / (|A| + |S|); 0 where there is neither a link nor one to be found."""
    size = totals[..., 2] + totals[..., 3]
    return np.where(size > 0, 1 - _quotient(totals[..., 0] + totals[..., 1], size), 0.0)


def _quotient(part: NDArray[np.float64], whole: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.float64]:
    """0 where the whole is."""
    return np.divide(part, whole, out=np.zeros(np.broadcast(part, whole).shape), where=np.asarray(whole) != 0)


_SCORES: Mapping[str, Callable[[Totals], NDArray[np.float64]]] = {
    "exact_match": _share,
    "bleu": _bleu,
    "chrf": _chrf,
    "loss": _share,
    "aer": _alignment_error_rate,
}

RESAMPLED = tuple(_SCORES)
"""The measures that can be scored again on resampled sentences."""
