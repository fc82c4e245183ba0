from __future__ import annotations

import math
import random

import pytest
import torch

from attnframe.data.schema import Alignment, Link
from attnframe.patterns.alignment import (
    Reading,
    alignment_error_rate,
    diagonal_links,
    perfect_links,
    row_shares,
    word_weights,
)


def test_three_sentences_by_hand() -> None:
    # Sentence 1: 2 links, both sure. Sentence 2: of 2 links one possible, one wrong, and a sure link missed.
    # Sentence 3: no sure link, its one link possible. |A|=5, |S|=3, |A and S|=2, |A and P|=4.
    pairs: list[tuple[list[Link], Alignment]] = [
        ([(0, 0), (1, 1)], Alignment(frozenset({(0, 0), (1, 1)}))),
        ([(2, 0), (0, 1)], Alignment(frozenset({(1, 1)}), frozenset({(2, 0)}))),
        ([(0, 0)], Alignment(frozenset(), frozenset({(0, 0)}))),
    ]
    assert alignment_error_rate(pairs) == pytest.approx(1 - (2 + 4) / (5 + 3))
    sentence_rates = [alignment_error_rate([pair]) for pair in pairs]
    assert sentence_rates == pytest.approx([0, 1 - 1 / 3, 0])


def test_the_two_readings_read_neighbouring_rows() -> None:
    rows = torch.tensor([[[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.2, 0.5, 0.3], [0.4, 0.3, 0.3]]])
    predicts = word_weights(rows, [0, 1], [0, 1, 2], reading=Reading.PREDICTS)
    next_step = word_weights(rows, [0, 1], [0, 1, 2], reading=Reading.NEXT_STEP)
    torch.testing.assert_close(predicts, rows[:, 0:3, :2])
    torch.testing.assert_close(next_step, rows[:, 1:4, :2])


def test_a_word_sums_over_source_pieces_and_averages_over_target_pieces() -> None:
    rows = torch.tensor([[[0.3, 0.2, 0.4, 0.1], [0.1, 0.2, 0.6, 0.1], [0.0, 0.0, 0.0, 1.0]]])
    got = word_weights(rows, [0, 0, 1], [0, 0], reading=Reading.PREDICTS)
    torch.testing.assert_close(got, torch.tensor([[[0.4, 0.5]]]))


def test_shares_are_of_absolute_values_and_keep_signs_and_ties() -> None:
    rows = torch.tensor([[3.0, 1.0], [-2.0, 2.0], [0.0, 0.0], [0.1, 0.1], [math.nan, 1.0], [0.0, math.inf]])
    expected = [[0.75, 0.25], [-0.5, 0.5], [0.0, 0.0], [0.5, 0.5]]
    got = row_shares(rows)
    torch.testing.assert_close(got[:4], torch.tensor(expected), rtol=0, atol=0)
    assert got[4:].isnan().any(-1).all()


def test_half_precision_is_summed_in_single_precision() -> None:
    weights = torch.tensor([[[1.0] + [0.001] * 4, [0.0] * 5]], dtype=torch.bfloat16)
    got = word_weights(weights, [0] * 5, [0], reading=Reading.PREDICTS)
    torch.testing.assert_close(got, weights[:, :1].float().sum(-1, keepdim=True))


@pytest.mark.parametrize(
    ("num_src", "num_tgt", "sources"),
    [(5, 3, [0, 2, 4]), (3, 5, [0, 0, 1, 2, 2]), (7, 1, [0]), (1, 4, [0, 0, 0, 0]), (4, 0, []), (0, 3, [])],
)
def test_diagonal_by_hand(num_src: int, num_tgt: int, sources: list[int]) -> None:
    assert diagonal_links(num_src, num_tgt) == [(source, target) for target, source in enumerate(sources)]


@pytest.mark.parametrize("seed", range(20))
def test_no_choice_of_one_link_per_target_word_beats_the_perfect_one(seed: int) -> None:
    from itertools import product

    rng = random.Random(seed)
    corpus = []
    for num_src, num_tgt in ((3, 2), (2, 3)):
        links = [(s, t) for s in range(num_src) for t in range(num_tgt)]
        sure = frozenset(link for link in links if rng.random() < 0.3)
        possible = frozenset(link for link in links if rng.random() < 0.3)
        corpus.append((num_src, num_tgt, Alignment(sure, possible)))
    choices = [
        [(list(zip(sources, range(n), strict=True)), gold) for sources in product(range(m), repeat=n)]
        for m, n, gold in corpus
    ]
    lowest = min(alignment_error_rate(pairs) for pairs in product(*choices))
    assert alignment_error_rate((perfect_links(gold, n), gold) for _, n, gold in corpus) == pytest.approx(lowest)


def test_perfect_links_prefer_sure_then_possible() -> None:
    gold = Alignment(frozenset({(2, 0)}), frozenset({(0, 0), (3, 1)}))
    assert perfect_links(gold, 3)[:2] == [(2, 0), (3, 1)]
    assert len(perfect_links(gold, 3)) == 3


def test_empty_cases() -> None:
    nothing = Alignment(frozenset())
    assert alignment_error_rate([([], nothing)]) == 0.0
    assert alignment_error_rate([([(0, 0)], nothing)]) == 1.0
    assert alignment_error_rate([([(0, 0), (1, 1)], Alignment(frozenset(), frozenset({(1, 1)})))]) == 0.5
    assert alignment_error_rate([([], Alignment(frozenset({(0, 0)})))]) == 1.0
    with pytest.raises(ValueError, match="no sentences"):
        alignment_error_rate([])


@pytest.mark.parametrize("reading", Reading)
def test_weights_that_are_too_small_are_refused(reading: Reading) -> None:
    with pytest.raises(ValueError, match="too small"):
        word_weights(torch.rand(2, 3, 5), [0], [0, 1, 2], reading=reading)
    with pytest.raises(ValueError, match="too small"):
        word_weights(torch.rand(2, 3, 1), [0, 1], [0], reading=reading)
