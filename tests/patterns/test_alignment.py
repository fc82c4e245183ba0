from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor

from attnframe.data.schema import Alignment, Link
from attnframe.patterns.alignment import (
    AlignmentScore,
    HeadScore,
    Reading,
    alignment_error_rate,
    argmax_links,
    diagonal_links,
    perfect_links,
    word_weights,
)

Sentence = tuple[Tensor, list[int], list[int], Alignment]


def _word_ids(rng: random.Random, num_words: int, longest: int = 3) -> list[int]:
    return [word for word in range(num_words) for _ in range(rng.randint(1, longest))]


def _sentence(rng: random.Random, layers: int, heads: int) -> Sentence:
    src_words, tgt_words = rng.randint(1, 7), rng.randint(1, 5)
    src_ids, tgt_ids = _word_ids(rng, src_words), _word_ids(rng, tgt_words)
    queries, keys = len(tgt_ids) + 1 + rng.randint(0, 2), len(src_ids) + 1 + rng.randint(0, 2)
    scores = torch.tensor([rng.gauss(0, 2) for _ in range(layers * heads * queries * keys)], dtype=torch.float64)
    weights = scores.reshape(layers, heads, queries, keys).softmax(-1)
    links = [(s, t) for s in range(src_words) for t in range(tgt_words)]
    sure = frozenset(link for link in links if rng.random() < 0.2)
    possible = frozenset(link for link in links if rng.random() < 0.2)
    return weights, src_ids, tgt_ids, Alignment(sure, possible)


def _slow_links(matrix: list[list[float]], src_ids: list[int], tgt_ids: list[int], shift: int) -> set[Link]:
    """One link per target word from a [query][key] table, in plain loops."""
    links = set()
    for target in sorted(set(tgt_ids)):
        rows = [piece + shift for piece, word in enumerate(tgt_ids) if word == target]
        totals = {}
        for source in sorted(set(src_ids)):
            columns = [piece for piece, word in enumerate(src_ids) if word == source]
            totals[source] = sum(matrix[row][column] for row in rows for column in columns) / len(rows)
        links.add((max(totals, key=lambda s: totals[s]), target))
    return links


def _slow_aer(pairs: list[tuple[set[Link], Alignment]]) -> float:
    in_sure = sum(link in gold.sure for links, gold in pairs for link in links)
    in_possible = sum(link in gold.possible for links, gold in pairs for link in links)
    total = sum(len(links) + len(gold.sure) for links, gold in pairs)
    return 1 - (in_sure + in_possible) / total


@pytest.mark.parametrize("seed", range(100))
def test_every_head_matches_a_plain_implementation(seed: int) -> None:
    rng = random.Random(seed)
    layers, heads = rng.choice([(1, 1), (2, 3), (3, 2)])
    sentences = [_sentence(rng, layers, heads) for _ in range(3)]
    score = AlignmentScore(layers, heads)
    for sentence in sentences:
        score.add(*sentence)
    best: list[tuple[float, int, int, int]] = []
    best_mean: list[tuple[float, int, int]] = []
    for layer in range(layers):
        for shift in (0, 1):
            for head in range(heads):
                expected = _slow_aer(
                    [(_slow_links(w[layer, head].tolist(), s, t, shift), gold) for w, s, t, gold in sentences]
                )
                assert float(score.head_aer()[layer, head, shift]) == pytest.approx(expected, abs=1e-12)
                best.append((round(expected, 12), layer, head, shift))
            expected = _slow_aer([(_slow_links(w[layer].mean(0).tolist(), s, t, shift), g) for w, s, t, g in sentences])
            assert float(score.mean_heads_aer()[layer, shift]) == pytest.approx(expected, abs=1e-12)
            best_mean.append((round(expected, 12), layer, shift))
    aer, layer, head, shift = min(best)
    found = score.best()
    assert (found.layer, found.head, found.reading) == (layer, head, tuple(Reading)[shift])
    assert found.aer == pytest.approx(aer)
    aer, layer, shift = min(best_mean)
    found = score.best_mean_heads()
    assert (found.layer, found.head, found.reading) == (layer, None, tuple(Reading)[shift])
    assert found.aer == pytest.approx(aer)


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
    assert argmax_links(predicts) == [[(0, 0), (1, 1), (1, 2)]]
    assert argmax_links(next_step) == [[(1, 0), (1, 1), (0, 2)]]


def test_a_word_sums_over_source_pieces_and_averages_over_target_pieces() -> None:
    rows = torch.tensor([[[0.3, 0.2, 0.4, 0.1], [0.1, 0.2, 0.6, 0.1], [0.0, 0.0, 0.0, 1.0]]])
    got = word_weights(rows, [0, 0, 1], [0, 0], reading=Reading.PREDICTS)
    torch.testing.assert_close(got, torch.tensor([[[0.4, 0.5]]]))


def test_the_mean_of_heads_is_of_weights_not_of_votes() -> None:
    # Two heads lean slightly to word 0, one strongly to word 1.
    weights = torch.tensor([[[0.6, 0.4]], [[0.6, 0.4]], [[0.1, 0.9]]]).repeat(1, 2, 1)[None]
    score = AlignmentScore(1, 3)
    score.add(weights, [0, 1], [0], Alignment(frozenset({(1, 0)})))
    assert score.mean_heads_aer().tolist() == [[0.0, 0.0]]
    assert score.head_aer().tolist() == [[[1.0, 1.0], [1.0, 1.0], [0.0, 0.0]]]
    assert score.best() == HeadScore(0, 2, Reading.PREDICTS, 0.0)


def test_ties_go_to_the_first_layer_head_and_reading() -> None:
    weights = torch.full((3, 2, 2, 1), 1.0)
    score = AlignmentScore(3, 2)
    score.add(weights, [0], [0], Alignment(frozenset({(0, 0)})))
    assert score.best() == HeadScore(0, 0, Reading.PREDICTS, 0.0)
    assert score.best_mean_heads() == HeadScore(0, None, Reading.PREDICTS, 0.0)


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
    with pytest.raises(ValueError, match="no sentences"):
        AlignmentScore(2, 3).best()


def test_sentences_without_words_count_as_their_links() -> None:
    score = AlignmentScore(1, 1)
    score.add(torch.rand(1, 1, 3, 1), [], [0, 1], Alignment(frozenset()))
    score.add(torch.rand(1, 1, 1, 3), [0, 1], [], Alignment(frozenset()))
    assert score.best().aer == 0.0
    score.add(torch.ones(1, 1, 2, 1), [0], [0], Alignment(frozenset()))
    assert score.best().aer == 1.0
    assert argmax_links(torch.zeros(2, 3, 0)) == [[], []]


@pytest.mark.parametrize("reading", Reading)
def test_weights_that_are_too_small_are_refused(reading: Reading) -> None:
    with pytest.raises(ValueError, match="too small"):
        word_weights(torch.rand(2, 3, 5), [0], [0, 1, 2], reading=reading)
    with pytest.raises(ValueError, match="too small"):
        word_weights(torch.rand(2, 3, 1), [0, 1], [0], reading=reading)


def test_a_score_refuses_what_it_cannot_count() -> None:
    score = AlignmentScore(2, 3)
    with pytest.raises(ValueError, match="2 layers, 3 heads"):
        score.add(torch.rand(3, 2, 2, 2), [0], [0], Alignment(frozenset()))
    with pytest.raises(ValueError, match=r"link \(1, 0\)"):
        score.add(torch.rand(2, 3, 2, 2), [0], [0], Alignment(frozenset({(1, 0)})))
    with pytest.raises(ValueError, match="NaN"):
        score.add(torch.full((2, 3, 2, 2), float("nan")), [0], [0], Alignment(frozenset()))
    with pytest.raises(ValueError, match="no sentences"):
        score.head_aer()
