"""How far two groups of runs are apart: a bootstrap over seeds and sentences, corrected for few seeds.

docs/decisions/012-fair-comparison.md derives it. In short: every replicate draws the seeds of each group and the
sentences of the test set, all with replacement and the sentences the same ones for all runs, and scores the corpus
again. The part of a replicate that comes from the seeds is stretched by √(n/(n-1)), for a bootstrap of n seeds has but
(n-1)/n of their variance; what seeds and sentences do together, which such a bootstrap counts three times (Owen 2007,
https://doi.org/10.1214/07-AOAS122), is counted once; and the interval takes Student's t with the degrees of freedom
that the estimate of the variance has (Welch 1947, https://doi.org/10.1093/biomet/34.1-2.28).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr

from attnframe.comparison.corpus_scores import corpus_score
from attnframe.comparison.intervals import LEVEL, t_quantile
from attnframe.runs.sentence_statistics import Counts

REPLICATES = 2000
# Replicates that are summed up at a time.
_ROWS = 250

Score = NDArray[np.float64]
"""[1 + REPLICATES]: the corpus score of a run, then that on the sentences of each replicate."""


@dataclass(frozen=True)
class Difference:
    """First group minus second, the ends of its interval, and the p-value of there being none.

    `p` is None where a group has one run: nothing is then known of how seeds differ, and the interval is that over
    sentences, of these very runs.
    """

    difference: float
    low: float
    high: float
    p: float | None


class Resampling:
    """`REPLICATES` times as many sentences as there are, drawn with replacement: the same ones for every run.

    Equal seeds draw the same of equally many.
    """

    def __init__(self, sentences: int, *, seed: int) -> None:
        random = np.random.default_rng(seed)
        # How often each replicate has each sentence. As bytes, for there may be many sentences and none comes often.
        self._weights = np.empty((REPLICATES, sentences), dtype=np.uint8)
        for row in self._weights:
            row[:] = np.bincount(random.integers(0, sentences, size=sentences), minlength=sentences)

    def scores(self, counts: Mapping[str, Counts]) -> dict[str, Score]:
        """By measure the scores of a run, from its counts [sentences, counts]."""
        if not counts:
            return {}
        columns = np.concatenate([np.asarray(rows, dtype=np.float64) for rows in counts.values()], axis=1)
        totals = np.empty((1 + REPLICATES, columns.shape[1]))
        totals[0] = columns.sum(axis=0)
        # Whole counts stay exact in single precision up to 2^24, and it is twice as fast.
        single = columns.astype(np.float32)
        for start in range(0, REPLICATES, _ROWS):
            weights = self._weights[start : start + _ROWS].astype(np.float32)
            totals[1 + start : 1 + start + _ROWS] = weights @ single
        ends = np.cumsum([rows.shape[1] for rows in counts.values()])
        parts = np.split(totals, ends[:-1], axis=1)
        return {measure: corpus_score(measure, part) for measure, part in zip(counts, parts, strict=True)}


def difference(first_runs: Sequence[Score], second_runs: Sequence[Score], *, seed: int) -> Difference:
    """How far the mean scores of two groups are apart, all of one `Resampling`; `seed` draws the seeds."""
    first, second = np.stack(first_runs, axis=1), np.stack(second_runs, axis=1)
    estimate = float(first[0].mean() - second[0].mean())
    sentence_part = first[1:].mean(axis=1) - second[1:].mean(axis=1)
    if min(first.shape[1], second.shape[1]) < 2:
        low, high = np.quantile(sentence_part, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Difference(estimate, float(low), float(high), None)
    random = np.random.default_rng(seed)
    groups = [_SeedPart.of(scores, random) for scores in (first, second)]
    together = sum(group.together for group in groups)
    # Of the sentences alone: what their resampling does to the means, without what it does to each run by itself.
    of_sentences = max(0.0, float(sentence_part.var(ddof=1)) - together)
    of_seeds = sum(group.variance for group in groups)
    variance = of_sentences + of_seeds
    if variance == 0:
        return Difference(estimate, estimate, estimate, 1.0 if estimate == 0 else 0.0)
    # Satterthwaite 1946; that of the sentences, of which there are many, is as good as known.
    freedom = variance**2 / max(sum(group.variance**2 / group.freedom for group in groups), 1e-300)
    error = math.sqrt(variance)
    half_width = t_quantile(freedom) * error
    p = 2 * float(stdtr(freedom, -abs(estimate) / error))
    return Difference(estimate, estimate - half_width, estimate + half_width, p)


@dataclass(frozen=True)
class _SeedPart:
    """What one group's seeds add to the variance of the difference of means.

    `together` is the share of it that is not the seed's own: a run does better than others on some sentences.
    """

    variance: float
    together: float
    freedom: int

    @classmethod
    def of(cls, scores: NDArray[np.float64], random: np.random.Generator) -> _SeedPart:
        runs = scores.shape[1]
        drawn = random.multinomial(runs, np.full(runs, 1 / runs), size=len(scores) - 1) / runs
        resampled = scores[1:]
        deviations = resampled - resampled.mean(axis=1, keepdims=True)
        stretched = math.sqrt(runs / (runs - 1)) * (drawn * deviations).sum(axis=1)
        together = float(deviations.var(axis=0, ddof=1).sum()) / (runs - 1) / runs
        # The replicate's own sentences have moved the runs apart once more.
        variance = float((stretched**2).mean()) - together
        # Seeds that happen to agree leave what the sentences alone do to each run.
        return cls(max(variance, together), together, runs - 1)
