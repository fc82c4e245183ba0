from __future__ import annotations

import random

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from attnframe.attention import PatternKind
from attnframe.data.schema import Alignment
from attnframe.patterns import Pattern, Patterns
from attnframe.patterns.alignment import Reading, word_weights
from attnframe.patterns.link_counts import LinkCounter
from attnframe.patterns.words import over_words, word_patterns


def random_word_ids(rng: random.Random, words: int, longest: int = 4) -> list[int]:
    return [word for word in range(words) for _ in range(rng.randint(1, longest))]


def random_weights(rng: random.Random, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(rng.randrange(10**6))
    return torch.randn(*shape, generator=generator, dtype=torch.float64).mul(2).softmax(-1)


def slowly(weights: Tensor, query_words: list[int], key_words: list[int]) -> Tensor:
    """Of one head, in plain loops over [query][key]."""
    rows = weights.tolist()
    merged = []
    for query in sorted(set(query_words)):
        members = [row for row, word in zip(rows, query_words, strict=True) if word == query]
        merged.append(
            [
                sum(x for row in members for x, word in zip(row, key_words, strict=True) if word == key) / len(members)
                for key in sorted(set(key_words))
            ]
        )
    return torch.tensor(merged, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(20))
def test_pieces_of_keys_are_summed_and_those_of_queries_averaged(seed: int) -> None:
    rng = random.Random(seed)
    queries, keys = random_word_ids(rng, rng.randint(1, 5)), random_word_ids(rng, rng.randint(1, 7))
    weights = random_weights(rng, 2, 3, len(queries), len(keys))
    merged = over_words(weights, queries, keys)
    assert merged.shape == (2, 3, queries[-1] + 1, keys[-1] + 1)
    for layer in range(2):
        for head in range(3):
            assert_close(merged[layer, head], slowly(weights[layer, head], queries, keys), rtol=0, atol=1e-14)
    assert_close(merged.sum(-1), torch.ones(2, 3, queries[-1] + 1, dtype=torch.float64), rtol=0, atol=1e-14)


def test_by_hand() -> None:
    weights = torch.tensor([[0.125, 0.25, 0.125, 0.5], [0.0, 0.25, 0.25, 0.5], [1.0, 0.0, 0.0, 0.0]])
    expected = torch.tensor([[0.0625, 0.4375, 0.5], [1.0, 0.0, 0.0]])
    assert torch.equal(over_words(weights, [0, 0, 1], [0, 1, 1, 2]), expected)


def test_one_piece_a_word_changes_no_bit() -> None:
    weights = torch.randn(3, 5, 7)
    weights[0, 1, 2] = float("nan")
    weights[1, 2, 3] = float("-inf")
    assert_close(over_words(weights, range(5), range(7)), weights, rtol=0, atol=0, equal_nan=True)


def test_half_precision_is_summed_in_single_precision() -> None:
    weights = torch.tensor([[1.0] + [0.001] * 4], dtype=torch.bfloat16)
    assert_close(over_words(weights, [0], [0] * 5), weights.float().sum(-1, keepdim=True), rtol=0, atol=1e-6)


def test_no_pieces_no_words() -> None:
    assert over_words(torch.zeros(2, 0, 3), [], [0, 0, 1]).shape == (2, 0, 2)
    assert over_words(torch.zeros(2, 3, 0), [0, 1, 1], []).shape == (2, 2, 0)


@pytest.mark.parametrize(("queries", "keys"), [(3, 5), (2, 4), (5, 2)])
def test_weights_must_fit_the_pieces(queries: int, keys: int) -> None:
    with pytest.raises(ValueError, match=r"\(7, 2, 5\).*query pieces"):
        over_words(torch.zeros(7, 2, 5), range(queries), range(keys))


def recorded(rng: random.Random, source: list[int], target: list[int]) -> Patterns:
    sizes = {
        "encoder_self": (len(source) + 1, len(source) + 1),
        "decoder_self": (len(target) + 1, len(target) + 1),
        "cross": (len(target) + 1, len(source) + 1),
    }
    patterns = Patterns()
    for site, (queries, keys) in sizes.items():
        for layer, heads in enumerate((2, 3)):
            weights = random_weights(rng, 1, heads, queries, keys)
            if site == "decoder_self":
                weights = weights.tril() / weights.tril().sum(-1, keepdim=True)
            patterns.add((site, layer), Pattern(weights, PatternKind.PROBABILITY))
    return patterns


def test_words_of_each_site_by_hand() -> None:
    # Source: one piece, two, and EOS. Target read: BOS, three pieces, one. Said: three pieces, one, EOS.
    patterns = recorded(random.Random(3), [0, 1, 1], [0, 0, 0, 1])
    words = word_patterns(patterns, [0, 1, 1], [0, 0, 0, 1])
    assert list(words) == list(patterns)
    groups = {
        "encoder_self": ([0, 1, 1, 2], [0, 1, 1, 2]),
        "decoder_self": ([0, 1, 1, 1, 2], [0, 1, 1, 1, 2]),
        "cross": ([0, 0, 0, 1, 2], [0, 1, 1, 2]),
    }
    for (site, layer), pattern in words.items():
        before = patterns[site, layer]
        assert pattern.kind is before.kind
        for head in range(before.weights.shape[1]):
            expected = slowly(before.weights[0, head], *groups[site])
            assert_close(pattern.weights[0, head], expected, rtol=0, atol=1e-14)


def test_contributions_are_merged_as_an_upper_bound() -> None:
    """Against the norm of the sum over key pieces and of the mean over query pieces, of vectors drawn at random."""
    generator = torch.Generator().manual_seed(1)
    source, target = [0, 1, 1], [0, 0, 0, 1]
    # What each key piece adds to each query piece through each head, at the cross site.
    added = torch.randn(2, 5, 4, 7, generator=generator, dtype=torch.float64)
    patterns = Patterns()
    weights = random_weights(random.Random(2), 1, 2, 5, 4)
    patterns.add(("cross", 0), Pattern(weights, PatternKind.PROBABILITY, added.norm(dim=-1)[None]))
    merged = word_patterns(patterns, source, target)["cross", 0].contributions
    assert merged is not None
    assert merged.shape == (1, 2, 3, 3)
    steps, keys = [[0, 1, 2], [3], [4]], [[0], [1, 2], [3]]
    for row, queries in enumerate(steps):
        for column, pieces in enumerate(keys):
            by_piece = added[:, queries][:, :, pieces]
            together = by_piece.sum(2).mean(1).norm(dim=-1)
            found = merged[0, :, row, column]
            assert_close(found, by_piece.norm(dim=-1).sum(2).mean(1), rtol=0, atol=1e-12)
            assert (found >= together - 1e-12).all()
            if len(queries) == len(pieces) == 1:
                assert_close(found, together, rtol=0, atol=1e-12)


def test_without_contributions_there_are_none_between_words() -> None:
    patterns = recorded(random.Random(3), [0, 1, 1], [0, 0, 1])
    assert all(pattern.contributions is None for pattern in word_patterns(patterns, [0, 1, 1], [0, 0, 1]).values())


@pytest.mark.parametrize("seed", range(10))
def test_rows_keep_their_sum_and_the_decoder_sees_no_later_word(seed: int) -> None:
    rng = random.Random(seed)
    source, target = random_word_ids(rng, 5), random_word_ids(rng, 7)
    words = word_patterns(recorded(rng, source, target), source, target)
    for (site, _), pattern in words.items():
        assert_close(pattern.weights.sum(-1), torch.ones_like(pattern.weights[..., 0]), rtol=0, atol=1e-14)
        if site == "decoder_self":
            assert not pattern.weights.triu(1).any()


def test_where_words_are_pieces_patterns_stay_as_they_are() -> None:
    patterns = recorded(random.Random(5), [0, 1, 2], [0, 1, 2, 3, 4])
    words = word_patterns(patterns, [0, 1, 2], [0, 1, 2, 3, 4])
    for place, pattern in patterns.items():
        assert torch.equal(words[place].weights, pattern.weights)


@pytest.mark.parametrize("seed", range(10))
def test_the_cross_rows_are_those_that_predict_the_words(seed: int) -> None:
    """So a gold link (i, j) is the cell in row j and column i, and AER reads the very rows that are drawn."""
    rng = random.Random(seed)
    source, target = random_word_ids(rng, 5), random_word_ids(rng, 7)
    patterns = recorded(rng, source, target)
    drawn = word_patterns(patterns, source, target)["cross", 1].weights[0]
    read = word_weights(patterns["cross", 1].weights[0], source, target, reading=Reading.PREDICTS)
    assert_close(drawn[:, :-1, :-1], read, rtol=0, atol=1e-14)


@pytest.mark.parametrize("seed", range(20))
def test_the_error_rate_of_pieces_is_that_of_words(seed: int) -> None:
    """Pieces merged by hand and scored as whole words give the AER that the pieces give with their word ids."""
    rng = random.Random(seed)
    heads = 3
    by_piece = LinkCounter(2, heads)
    by_word = {Reading.PREDICTS: LinkCounter(2, heads), Reading.NEXT_STEP: LinkCounter(2, heads)}
    for _ in range(4):
        num_src, num_tgt = rng.randint(2, 7), rng.randint(2, 5)
        source, target = random_word_ids(rng, num_src), random_word_ids(rng, num_tgt)
        weights = random_weights(rng, 2, heads, len(target) + 1, len(source) + 1)
        links = [(i, j) for i in range(num_src) for j in range(num_tgt)]
        gold = Alignment(frozenset(rng.sample(links, 2)), frozenset(rng.sample(links, 3)))
        by_piece.add(weights, source, target, gold)
        said, read = [*target, num_tgt], [0, *(word + 1 for word in target)]
        for reading, queries in ((Reading.PREDICTS, said), (Reading.NEXT_STEP, read)):
            merged = [
                [slowly(weights[layer, head], queries, [*source, num_src]) for head in range(heads)]
                for layer in range(2)
            ]
            words = torch.stack([torch.stack(layer) for layer in merged])
            by_word[reading].add(words, range(num_src), range(num_tgt), gold)
    for column, reading in enumerate(Reading):
        by_words = by_word[reading].counts().error_rate()[..., column]
        assert_close(by_piece.counts().error_rate()[..., column], by_words, rtol=0, atol=0)


def test_what_is_missing_stays_so() -> None:
    patterns = Patterns()
    patterns.add(("cross", 1), Pattern(torch.rand(1, 2, 4, 4), PatternKind.PROBABILITY))
    patterns.leave_out(("cross", 0), "a reason")
    merged = word_patterns(patterns, [0, 0, 1], [0, 1, 1])
    assert (list(merged), merged.missing) == ([("cross", 1)], {("cross", 0): "a reason"})
