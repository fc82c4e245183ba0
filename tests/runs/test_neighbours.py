from __future__ import annotations

import math

import pytest
import torch
from by_hand import nearest_by_hand

from attnframe.data.word_tokenizer import WordTokenizer
from attnframe.runs.neighbours import Neighbour, nearest_tokens

WORDS = WordTokenizer([f"w{number}" for number in range(13)])
FIRST = 4


@pytest.mark.parametrize("count", [1, 3, 13, 99])
def test_neighbours_are_those_of_brute_force(count: int) -> None:
    torch.manual_seed(count)
    table, embeddings = torch.randn(17, 5, dtype=torch.float64), torch.randn(7, 5, dtype=torch.float64)
    # A special token that is nearest to all is none.
    table[1] = embeddings[0]
    found = nearest_tokens(embeddings, table, WORDS, count)
    for neighbours, embedding in zip(found, embeddings.tolist(), strict=True):
        expected = nearest_by_hand(embedding, table.tolist(), count)
        assert [neighbour.id for neighbour in neighbours] == [index for index, _ in expected]
        assert [neighbour.label for neighbour in neighbours] == [f"w{index - FIRST}" for index, _ in expected]
        assert [neighbour.cosine for neighbour in neighbours] == pytest.approx([cosine for _, cosine in expected])


def test_of_equal_ones_the_lower_id_comes_first() -> None:
    table = torch.zeros(17, 2)
    table[[5, 7, 16]] = torch.tensor([2.0, 0.0])
    (found,) = nearest_tokens(torch.tensor([[3.0, 0.0]]), table, WORDS, 4)
    assert [(neighbour.id, neighbour.cosine) for neighbour in found] == [(5, 1.0), (7, 1.0), (16, 1.0), (4, 0.0)]


def test_what_is_not_finite_has_no_neighbours_and_is_none() -> None:
    table = torch.eye(17)
    table[4, 0], table[5, 0] = math.nan, math.inf
    embeddings = torch.eye(17)[[6, 6, 6]]
    embeddings[1, 0], embeddings[2, 3] = math.nan, math.inf
    sound, *odd = nearest_tokens(embeddings, table, WORDS, 99)
    assert sound[0] == Neighbour(6, "w2", 1.0)
    assert {neighbour.id for neighbour in sound} == set(range(6, 17))
    assert odd == [(), ()]


def test_half_precision_is_compared_in_float32() -> None:
    torch.manual_seed(0)
    table, embeddings = torch.randn(17, 64).bfloat16(), torch.randn(3, 64).bfloat16()
    assert nearest_tokens(embeddings, table, WORDS, 5) == nearest_tokens(embeddings.float(), table.float(), WORDS, 5)
