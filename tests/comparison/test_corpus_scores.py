"""Scores from summed counts against sacreBLEU on the sentences themselves."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

from attnframe.comparison.corpus_scores import corpus_score
from attnframe.patterns.alignment import alignment_error_rate
from attnframe.runs.sentence_statistics import text_counts

WORDS = ["le", "chat", "noir", "Dort", "sur", "la", "table,", "et", "le", "chien", "rouge", "qui", "parle", "."]
METRICS = {"bleu": BLEU, "chrf": CHRF}


def corpus(seed: int, kept: float, sentences: int = 23) -> tuple[list[str], list[list[str]]]:
    """Hypotheses that keep a share of the words of their references, of which some have two."""
    draw = random.Random(seed)
    hypotheses, references = [], []
    for index in range(sentences):
        words = draw.choices(WORDS, k=draw.randint(1, 13))
        hypotheses.append(" ".join(word if draw.random() < kept else "xyz" for word in words))
        references.append([" ".join(words), *([" ".join(words[1:])] if index % 3 == 0 else [])])
    return hypotheses, references


def by_sacrebleu(measure: str, hypotheses: list[str], references: list[list[str]], lowercase: bool) -> float:
    most = max(map(len, references))
    streams = [[texts[place] if place < len(texts) else None for texts in references] for place in range(most)]
    return METRICS[measure](lowercase=lowercase).corpus_score(hypotheses, streams).score  # type: ignore[arg-type]


@pytest.mark.parametrize("measure", ["bleu", "chrf"])
@pytest.mark.parametrize("lowercase", [False, True])
# Few words kept leave orders of n-grams without a match, none kept leave no match at all.
@pytest.mark.parametrize("kept", [0.0, 0.2, 0.5, 0.95])
def test_a_corpus_scores_as_sacrebleu_scores_it(measure: str, kept: float, lowercase: bool) -> None:
    hypotheses, references = corpus(7, kept)
    counts = text_counts(hypotheses, references, lowercase=lowercase, measures=[measure])[measure]
    found = corpus_score(measure, counts.sum(axis=0).astype(float))
    assert float(found) == pytest.approx(by_sacrebleu(measure, hypotheses, references, lowercase), abs=1e-9)


@pytest.mark.parametrize("measure", ["bleu", "chrf"])
def test_a_weighted_corpus_is_one_with_its_sentences_repeated(measure: str) -> None:
    hypotheses, references = corpus(11, 0.6)
    counts = text_counts(hypotheses, references, lowercase=False, measures=[measure])[measure]
    weights = np.random.default_rng(2).multinomial(len(hypotheses), [1 / len(hypotheses)] * len(hypotheses), size=5)
    for weight, found in zip(weights, corpus_score(measure, weights.astype(float) @ counts), strict=True):
        drawn = [index for index, times in enumerate(weight) for _ in range(times)]
        expected = by_sacrebleu(
            measure, [hypotheses[index] for index in drawn], [references[index] for index in drawn], False
        )
        assert found == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("measure", ["bleu", "chrf"])
@pytest.mark.parametrize("hypotheses", [["", ""], ["le", "chat"], ["", "le chat noir"]])
def test_short_and_empty_hypotheses(measure: str, hypotheses: list[str]) -> None:
    references = [["le chat noir"], ["le chat noir dort"]]
    counts = text_counts(hypotheses, references, lowercase=False, measures=[measure])[measure]
    found = corpus_score(measure, counts.sum(axis=0).astype(float))
    assert float(found) == pytest.approx(by_sacrebleu(measure, hypotheses, references, False), abs=1e-9)


def test_rates_are_those_of_their_definitions() -> None:
    assert corpus_score("exact_match", np.array([3.0, 4.0])) == 0.75
    assert corpus_score("loss", np.array([6.0, 4.0])) == 1.5
    # |A ∩ S| = 2, |A ∩ P| = 3, |A| = 4, |S| = 3.
    assert corpus_score("aer", np.array([2.0, 3.0, 4.0, 3.0])) == pytest.approx(1 - 5 / 7)
    assert corpus_score("aer", np.zeros(4)) == alignment_error_rate([((), _no_links())])


def _no_links() -> object:
    from attnframe.data.schema import Alignment

    return Alignment(frozenset())
