from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

import pytest
import torch
from linked_sentences import Sentence, measured, random_sentence
from torch import Tensor

from attnframe.attention import PatternKind
from attnframe.data.schema import Alignment
from attnframe.patterns import Pattern
from attnframe.patterns.alignment import Reading, row_shares
from attnframe.patterns.head_alignment import AlignmentScore, HeadAlignment, HeadScore, LinkedSentence

HEADS = (2, 3)  # of the two layers
MEASURES = ("aer", "precision", "recall", "aer_soft", "precision_soft", "recall_soft")
ONE_LINK = Alignment(frozenset({(1, 0)}))


def linked(sentence: Sentence) -> LinkedSentence:
    return LinkedSentence(sentence.src_ids, sentence.tgt_ids, sentence.gold, sentence.tags)


def layer(
    weights: Tensor | Sequence[object],
    contributions: Tensor | Sequence[object] | None = None,
    kind: PatternKind = PatternKind.PROBABILITY,
) -> Pattern:
    """Of one sentence, [heads, query, key]."""
    if contributions is None:
        return Pattern(torch.as_tensor(weights)[None], kind)
    norms = torch.as_tensor(contributions)[None]
    return Pattern(torch.as_tensor(weights)[None], kind, norms, norms.mean(1))


def of_two_words(*heads: tuple[float, float]) -> Tensor:
    """[heads, query, key] for two source words and one target word; both readings see the same."""
    return torch.tensor([[head, head] for head in heads])


def scored(*layers: Pattern, gold: Alignment = ONE_LINK) -> AlignmentScore:
    score = AlignmentScore()
    score.add(dict(enumerate(layers)), {0: LinkedSentence([0, 1], [0], gold)})
    return score


def rows_by_place(rows: list[HeadAlignment]) -> dict[tuple[int, int | None, Reading], HeadAlignment]:
    assert len({row.place for row in rows}) == len(rows)
    return {row.place: row for row in rows}


@pytest.mark.parametrize("seed", range(10))
def test_the_table_is_that_of_plain_loops(seed: int) -> None:
    """For layers with different numbers of heads, by weights and by contributions, with each head and each mean."""
    rng = random.Random(seed)
    sentences = [random_sentence(rng, sum(HEADS)) for _ in range(4)]
    norms = [
        one.weights * torch.tensor([rng.expovariate(1) for _ in range(one.weights.shape[-1])]) for one in sentences
    ]
    score = AlignmentScore()
    for one, contributions in zip(sentences, norms, strict=True):
        weights = zip(one.weights.split(HEADS), contributions.split(HEADS), strict=True)
        score.add({number: layer(p, c) for number, (p, c) in enumerate(weights)}, {0: linked(one)})
    table = score.table()
    assert [row.place for row in table] == [
        (index, head, reading)
        for index, num_heads in enumerate(HEADS)
        for head in (*range(num_heads), None)
        for reading in Reading
    ]
    for row in table:
        shift = list(Reading).index(row.reading)
        by_weights, by_norms = (
            measured(
                [
                    (_one_map(maps.split(HEADS)[row.layer], row.head, of_norms).tolist(), one)
                    for maps, one in zip(of_all, sentences, strict=True)
                ],
                shift=shift,
            )
            for of_all, of_norms in (([one.weights for one in sentences], False), (norms, True))
        )
        assert [getattr(row, name) for name in MEASURES] == pytest.approx(by_weights, abs=1e-12)
        assert (row.aer_norms, row.aer_norms_soft) == pytest.approx((by_norms.aer, by_norms.aer_soft), abs=1e-12)
    heads = [row for row in table if row.head is not None]
    means = [row for row in table if row.head is None]
    assert score.best().aer == min(row.aer for row in heads)
    assert score.best_mean_heads().aer == min(row.aer for row in means)
    best = score.best_norms()
    assert best is not None
    assert best.aer == min(row.aer_norms for row in heads if row.aer_norms is not None)
    for found, column in ((score.best(), "aer"), (score.best_mean_heads(), "aer"), (best, "aer_norms")):
        assert getattr(rows_by_place(table)[found.place], column) == found.aer


def _one_map(heads: Tensor, head: int | None, of_norms: bool) -> Tensor:
    chosen = heads.mean(0) if head is None else heads[head]
    return chosen / chosen.sum(-1, keepdim=True) if of_norms else chosen


def test_weights_and_contributions_can_choose_different_heads() -> None:
    """The first head looks at the wrong word, whose value is short; the second at the right one, which adds nothing."""
    weights, norms = of_two_words((0.9, 0.1), (0.2, 0.8)), of_two_words((0.1, 3.0), (5.0, 0.01))
    score = scored(layer(weights, norms))
    assert score.best() == HeadScore(0, 1, Reading.PREDICTS, 0.0)
    assert score.best_norms() == HeadScore(0, 0, Reading.PREDICTS, 0.0)
    rows = rows_by_place(score.table())
    assert [rows[0, head, Reading.PREDICTS].aer for head in (0, 1)] == [1.0, 0.0]
    assert [rows[0, head, Reading.PREDICTS].aer_norms for head in (0, 1)] == [0.0, 1.0]


def test_a_layer_without_contributions_has_no_error_rate_of_them() -> None:
    right = of_two_words((0.2, 0.8))
    score = scored(layer(right), layer(right, right), layer(right))
    assert [row.aer_norms for row in score.table() if row.head == 0] == [None, None, 0.0, 0.0, None, None]
    best = score.best_norms()
    assert best is not None
    assert best.layer == 1
    assert scored(layer(right), layer(right)).best_norms() is None


def test_the_mean_of_heads_is_of_weights_not_of_votes() -> None:
    # Two heads lean slightly to word 0, one strongly to word 1.
    score = scored(layer(of_two_words((0.6, 0.4), (0.6, 0.4), (0.1, 0.9))))
    aer = {place: row.aer for place, row in rows_by_place(score.table()).items()}
    expected = {0: 1.0, 1: 1.0, 2: 0.0, None: 0.0}
    assert aer == {(0, head, reading): rate for head, rate in expected.items() for reading in Reading}
    assert score.best() == HeadScore(0, 2, Reading.PREDICTS, 0.0)


def test_ties_go_to_the_first_layer_head_and_reading() -> None:
    alike = of_two_words((0.1, 0.9), (0.1, 0.9))
    score = scored(layer(alike, alike), layer(alike, alike))
    assert score.best() == score.best_norms() == HeadScore(0, 0, Reading.PREDICTS, 0.0)
    assert score.best_mean_heads() == HeadScore(0, None, Reading.PREDICTS, 0.0)


@pytest.mark.parametrize("kind", [kind for kind in PatternKind if kind is not PatternKind.PROBABILITY])
def test_what_is_no_probability_is_read_as_shares(kind: PatternKind) -> None:
    weights = of_two_words((30.0, -10.0), (7.0, 21.0))
    found = scored(layer(weights, kind=kind)).table()
    shares = scored(layer(torch.cat([row_shares(weights), row_shares(weights.mean(0, keepdim=True))]))).table()
    assert all(0 <= getattr(row, name) <= 1 for row in found for name in MEASURES)
    expected = {0: 0.25, 1: 0.75, None: (21 - 10) / 2 / ((21 - 10) / 2 + (30 + 7) / 2)}
    for row in found:
        assert row.precision_soft == pytest.approx(expected[row.head], rel=1e-6)
        same = rows_by_place(shares)[0, 2 if row.head is None else row.head, row.reading]
        assert dataclasses.replace(row, head=same.head) == same


def test_only_rows_with_gold_links_count_and_batches_are_no_matter() -> None:
    rng = random.Random(3)
    sentences = [random_sentence(rng, 3) for _ in range(5)]
    queries, keys = (max(one.weights.shape[axis] for one in sentences) for axis in (-2, -1))
    padded = torch.zeros(len(sentences), 3, queries, keys, dtype=torch.float64)
    for row, one in enumerate(sentences):
        padded[row, :, : one.weights.shape[-2], : one.weights.shape[-1]] = one.weights
    in_one = AlignmentScore()
    in_one.add({0: Pattern(padded, PatternKind.PROBABILITY)}, {row: linked(sentences[row]) for row in (0, 1, 3)})
    apart = AlignmentScore()
    assert not apart.counted
    for row in (3, 0, 1):
        apart.add({0: layer(sentences[row].weights)}, {0: linked(sentences[row])})
    assert in_one.counted
    assert in_one.tags == sorted({tag for row in (0, 1, 3) for tag in sentences[row].tags})
    for tag in (None, *in_one.tags):
        for one, other in zip(in_one.table(tag), apart.table(tag), strict=True):
            assert one.place == other.place
            assert [getattr(one, name) for name in MEASURES] == pytest.approx([getattr(other, n) for n in MEASURES])


def test_a_model_that_has_diverged_has_no_error_rate() -> None:
    right, spoilt = of_two_words((0.2, 0.8)), of_two_words((0.2, math.nan))
    score = scored(layer(right, right), layer(right, spoilt))
    assert score.best().aer == 0.0
    best = score.best_norms()
    assert best is not None
    assert math.isnan(best.aer)
    for row in scored(layer(spoilt), layer(right)).table():
        assert all(math.isnan(getattr(row, name)) for name in MEASURES)
        assert row.aer_norms is None


def test_layers_keep_their_numbers() -> None:
    wrong, right = of_two_words((0.9, 0.1)), of_two_words((0.9, 0.1), (0.2, 0.8))
    score = AlignmentScore()
    score.add({4: layer(right, right), 1: layer(wrong)}, {0: LinkedSentence([0, 1], [0], ONE_LINK)})
    places = [(1, 0), (1, None), (4, 0), (4, 1), (4, None)]
    assert [row.place for row in score.table()] == [(*place, reading) for place in places for reading in Reading]
    assert score.best() == score.best_norms() == HeadScore(4, 1, Reading.PREDICTS, 0.0)
    assert {row.layer for row in score.table() if row.aer_norms is not None} == {4}


@pytest.mark.parametrize("lost", ["no pattern", "other heads"])
def test_only_layers_that_every_batch_has_are_scored(lost: str) -> None:
    """Whichever batch it is that a layer is missing from; the others are as if it had never been there."""
    rng = random.Random(5)
    sentences = [random_sentence(rng, sum(HEADS)) for _ in range(3)]
    parts = [{number: layer(p, p) for number, p in enumerate(one.weights.split(HEADS), start=2)} for one in sentences]
    alone = AlignmentScore()
    for one, of_layers in zip(sentences, parts, strict=True):
        alone.add({3: of_layers[3]}, {0: linked(one)})
    for batch in range(3):
        score = AlignmentScore()
        for number, (one, of_layers) in enumerate(zip(sentences, parts, strict=True)):
            rest = {} if lost == "no pattern" else {2: layer(one.weights[:1], one.weights[:1])}
            score.add({3: of_layers[3], **(rest if number == batch else {2: of_layers[2]})}, {0: linked(one)})
        assert score.table() == alone.table()
        assert score.best() == alone.best()
        assert score.best_norms() == alone.best_norms()
        assert score.tags == alone.tags
        for tag in score.tags:
            assert score.table(tag) == alone.table(tag)


def test_contributions_of_some_batches_only_are_not_scored() -> None:
    right = of_two_words((0.2, 0.8))
    for first, second in ((None, right), (right, None)):
        score = AlignmentScore()
        for norms in (first, second):
            score.add({0: layer(right, norms)}, {0: LinkedSentence([0, 1], [0], ONE_LINK)})
        assert [row.aer for row in score.table()] == [0.0] * 4
        assert [row.aer_norms for row in score.table()] == [None] * 4
        assert score.best_norms() is None


@pytest.mark.parametrize("patterns_of", [(0, 0), (0, 1), (1, 0)])
def test_without_a_layer_that_every_batch_has_nothing_is_counted(patterns_of: tuple[int, int]) -> None:
    score = AlignmentScore()
    for present in patterns_of:
        layers = {0: layer(of_two_words((0.2, 0.8)))} if present else {}
        score.add(layers, {0: LinkedSentence([0, 1], [0], ONE_LINK, ("plural",))})
    assert not score.counted
    assert (score.table(), score.tags) == ([], [])
    with pytest.raises(ValueError, match="no sentences"):
        score.best()


def test_nothing_counted_has_no_best_head() -> None:
    assert AlignmentScore().table() == []
    for best in (AlignmentScore().best, AlignmentScore().best_mean_heads, AlignmentScore().best_norms):
        with pytest.raises(ValueError, match="no sentences"):
            best()
