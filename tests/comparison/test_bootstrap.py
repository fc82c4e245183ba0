"""The corrected bootstrap: against plain loops, against Welch's test, and on comparisons without a difference."""

from __future__ import annotations

import math
import random
import statistics

import numpy as np
import pytest
from numpy.typing import NDArray
from sacrebleu.metrics.bleu import BLEU
from scipy import stats

from attnframe.comparison.bootstrap import REPLICATES, Difference, Resampling, difference
from attnframe.runs.sentence_statistics import exact_counts, text_counts

WORDS = ["le", "chat", "noir", "dort", "sur", "la", "table", "et", "le", "chien", "rouge", "voit", "deux", "femmes"]


def translations(seed: int, runs: int, sentences: int, kept: float) -> tuple[list[list[str]], list[str]]:
    """Hypotheses of each run, and the references, the same ones for every seed."""
    draw = random.Random(1)
    references = [" ".join(draw.choices(WORDS, k=draw.randint(4, 9))) for _ in range(sentences)]
    draw = random.Random(seed)
    rates = [kept + draw.uniform(-0.1, 0.1) for _ in range(runs)]
    return [
        [" ".join(word if draw.random() < rate else "xyz" for word in text.split()) for text in references]
        for rate in rates
    ], references


def plain_loops(groups: list[list[list[str]]], references: list[str], replicates: int) -> tuple[float, float]:
    """Standard error and degrees of freedom of the difference of mean BLEU: draw, score again by sacreBLEU, correct."""
    draw = random.Random(4)
    sentences = len(references)
    metric = BLEU()

    def bleu(hypotheses: list[str], drawn: list[int]) -> float:
        return metric.corpus_score([hypotheses[i] for i in drawn], [[references[i] for i in drawn]]).score

    means: list[float] = []
    stretched: list[list[float]] = [[], []]
    apart: list[list[list[float]]] = [[[] for _ in group] for group in groups]
    for _ in range(replicates):
        drawn = [draw.randrange(sentences) for _ in range(sentences)]
        of_groups = []
        for number, group in enumerate(groups):
            scores = [bleu(hypotheses, drawn) for hypotheses in group]
            mean = statistics.mean(scores)
            of_groups.append(mean)
            resampled = statistics.mean(draw.choices(scores, k=len(scores)))
            stretched[number].append(math.sqrt(len(scores) / (len(scores) - 1)) * (resampled - mean))
            for run, score in enumerate(scores):
                apart[number][run].append(score - mean)
        means.append(of_groups[0] - of_groups[1])
    together, of_seeds = [], []
    for number, group in enumerate(groups):
        runs = len(group)
        both = sum(statistics.variance(values) for values in apart[number]) / (runs - 1) / runs
        together.append(both)
        of_seeds.append(max(statistics.mean(value**2 for value in stretched[number]) - both, both))
    variance = max(0.0, statistics.variance(means) - sum(together)) + sum(of_seeds)
    freedom = variance**2 / sum(part**2 / (len(group) - 1) for part, group in zip(of_seeds, groups, strict=True))
    return math.sqrt(variance), freedom


@pytest.mark.slow
def test_an_interval_of_bleu_is_that_of_plain_loops() -> None:
    first, references = translations(2, 3, 61, 0.8)
    second, _ = translations(3, 4, 61, 0.7)
    resampling = Resampling(61, seed=9)
    scores = [
        [
            resampling.scores(text_counts(run, [[text] for text in references], lowercase=False, measures=["bleu"]))[
                "bleu"
            ]
            for run in group
        ]
        for group in (first, second)
    ]
    found = difference(*scores, seed=5)
    error, freedom = plain_loops([first, second], references, 1500)
    expected = statistics.mean(BLEU().corpus_score(run, [references]).score for run in first) - statistics.mean(
        BLEU().corpus_score(run, [references]).score for run in second
    )
    assert found.difference == pytest.approx(expected, abs=1e-9)
    # Two estimates of a standard deviation from thousands of draws each, a few per cent apart by chance.
    assert (found.high - found.low) / 2 == pytest.approx(stats.t.ppf(0.975, freedom) * error, rel=0.08)
    assert found.p == pytest.approx(2 * stats.t.sf(abs(expected) / error, freedom), rel=0.25)


def test_with_endless_sentences_it_is_welchs_test() -> None:
    # No sentence moves anything: what is left is the variance between seeds.
    first, second = [0.91, 0.95, 0.96], [0.80, 0.83, 0.90, 0.81]
    constant = [[np.full(1 + REPLICATES, score) for score in group] for group in (first, second)]
    found = difference(*constant, seed=0)
    expected = stats.ttest_ind(first, second, equal_var=False)
    interval = expected.confidence_interval(0.95)
    assert found.difference == pytest.approx(np.mean(first) - np.mean(second))
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high), abs=4e-3)
    assert found.p == pytest.approx(expected.pvalue, rel=0.1)


def test_the_sentences_alone_give_what_a_paired_comparison_of_means_gives() -> None:
    # Runs that are all one: seeds add nothing.
    draw = np.random.default_rng(8)
    first, second = draw.random(331) < 0.7, draw.random(331) < 0.6
    resampling = Resampling(331, seed=1)
    groups = [[resampling.scores({"exact_match": exact_counts(hits)})["exact_match"]] * 3 for hits in (first, second)]
    found = difference(*groups, seed=2)
    paired = first.astype(float) - second
    assert (found.high - found.low) / 2 == pytest.approx(1.96 * paired.std(ddof=1) / math.sqrt(331), rel=0.06)


def test_the_interval_ends_at_zero_where_p_is_the_level() -> None:
    draw = np.random.default_rng(3)
    for shift in np.linspace(0, 0.2, 41):
        groups = [[np.full(1 + REPLICATES, score + by) for score in draw.normal(0.5, 0.02, 3)] for by in (shift, 0)]
        found = difference(*groups, seed=1)
        assert found.p is not None
        assert (found.p < 0.05) == (found.low > 0 or found.high < 0)


@pytest.mark.parametrize("runs", [(1, 1), (1, 4), (4, 1)])
def test_one_run_claims_nothing(runs: tuple[int, int]) -> None:
    draw = np.random.default_rng(6)
    resampling = Resampling(101, seed=1)
    groups = [
        [resampling.scores({"exact_match": exact_counts(draw.random(101) < rate)})["exact_match"] for _ in range(count)]
        for count, rate in zip(runs, (0.99, 0.01), strict=True)
    ]
    found = difference(*groups, seed=0)
    assert found.p is None
    assert found.low < found.difference < found.high


def test_groups_that_are_equal_throughout_do_not_differ() -> None:
    same = [np.full(1 + REPLICATES, 0.25)] * 2
    assert difference(same, same, seed=0) == Difference(0.0, 0.0, 0.0, 1.0)


def test_seeds_that_agree_by_chance_do_not_make_a_difference_certain() -> None:
    # Two runs each with equal scores on other sentences: what the sentences do to each is left as what is not known.
    hits = np.zeros((4, 20), dtype=bool)
    for run, right in enumerate([(0, 1), (2, 3), (4,), (5,)]):
        hits[run, list(right)] = True
    resampling = Resampling(20, seed=3)
    scores = [resampling.scores({"exact_match": exact_counts(run)})["exact_match"] for run in hits]
    found = difference(scores[:2], scores[2:], seed=1)
    assert found.p is not None
    assert found.p > 0.1


def test_equal_seeds_draw_equal_sentences() -> None:
    counts = {"exact_match": exact_counts([True, False, True, True, False])}
    one, same, other = (Resampling(5, seed=seed).scores(counts)["exact_match"] for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


SENTENCES = 500


def made_group(
    draw: np.random.Generator, difficulty: NDArray[np.float64], seed_sd: float, mean: float
) -> list[list[bool]]:
    """Three runs: each as good as its seed has it, on sentences of which some are harder, and by chance on each."""
    return [
        (draw.random(len(difficulty)) < np.clip(difficulty + mean + draw.normal(0, seed_sd), 0, 1)).tolist()
        for _ in range(3)
    ]


def share_called_significant(comparisons: int, seed_sd: float, shift: float, seed: int) -> float:
    draw = np.random.default_rng(seed)
    significant = 0
    for number in range(comparisons):
        # Wide of 0 and 1, where clipping would take from the variance between seeds.
        difficulty = draw.uniform(0.25, 0.75, SENTENCES)
        resampling = Resampling(SENTENCES, seed=number)
        groups = [
            [
                resampling.scores({"exact_match": exact_counts(run)})["exact_match"]
                for run in made_group(draw, difficulty, seed_sd, mean)
            ]
            for mean in (shift / 2, -shift / 2)
        ]
        found = difference(*groups, seed=number)
        assert found.p is not None
        significant += found.p < 0.05
    return significant / comparisons


@pytest.mark.slow
@pytest.mark.parametrize("seed_sd", [0.02, 0.05])
def test_without_a_difference_few_of_400_comparisons_are_called_significant(seed_sd: float) -> None:
    assert share_called_significant(400, seed_sd, 0.0, seed=12) <= 0.07


@pytest.mark.slow
def test_a_true_difference_is_mostly_found() -> None:
    assert share_called_significant(100, 0.02, 0.1, seed=13) > 0.7
