from __future__ import annotations

import random

import pytest

from attnframe.data.tokenizer import SPECIAL_TOKENS, UNK, fit_tokenizer
from attnframe.data.word_tokenizer import WordTokenizer
from attnframe.data.words import GLUED, SPACED
from attnframe.errors import UserError

TEXTS = ("the cat sees the dog.", "a dog sees (nobody), really ?", "l'homme n'a pas vu le chien.")


def test_ids_go_by_count_then_alphabet() -> None:
    tokenizer = WordTokenizer.fit(["b a c", "c b", "c d"])
    assert tokenizer.encode("c b a d") == [4, 5, 6, 7]
    assert len(tokenizer) == 8


def test_the_order_of_the_texts_does_not_matter() -> None:
    shuffled = list(TEXTS)
    random.Random(3).shuffle(shuffled)
    assert WordTokenizer.fit(shuffled).state_dict() == WordTokenizer.fit(TEXTS).state_dict()


def test_rare_words_are_left_out() -> None:
    texts = ["b a c", "c b", "c d"]
    assert WordTokenizer.fit(texts, min_count=2).encode("a b c d") == [UNK, 5, 4, UNK]
    limited = WordTokenizer.fit(texts, vocab_size=7)
    assert len(limited) == 7
    assert limited.encode("a b c d") == [6, 5, 4, UNK]
    assert len(WordTokenizer.fit(texts, vocab_size=4)) == 4


def test_words_that_lower_casing_makes_equal_are_counted_together() -> None:
    texts = ["The the", "A a b", "THE B"]
    assert WordTokenizer.fit(texts, min_count=3, lowercase=True).state_dict()["words"] == ["the"]
    assert WordTokenizer.fit(texts, min_count=2, lowercase=False).state_dict()["words"] == []


def test_every_piece_is_a_word() -> None:
    tokenizer = WordTokenizer.fit(TEXTS[:1])
    assert tokenizer.pieces(TEXTS[2]) == ["l'", "homme", "n'", "a", "pas", "vu", "le", "chien", "."]
    assert tokenizer.word_ids(TEXTS[2]) == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert tokenizer.encode(TEXTS[2])[:-1] == [UNK] * 8


def test_a_word_that_is_spelt_like_a_special_token_keeps_an_id_of_its_own() -> None:
    tokenizer = WordTokenizer(["<pad>", "<eos>", "x"])
    assert tokenizer.decode([4, 6, 5, 6]) == "<pad> x <eos> x"
    assert len(SPECIAL_TOKENS) == 4


def test_labels_are_for_people_to_read() -> None:
    tokenizer = WordTokenizer(["<eos>", "dog", f"{GLUED}?", f"{SPACED}.", GLUED])
    labels = [tokenizer.label(index) for index in range(len(tokenizer))]
    assert labels == ["<pad>", "<bos>", "<eos>", "<unk>", "<eos>", "dog", "?", ".", GLUED]


def test_a_vocabulary_with_a_word_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'a' twice"):
        WordTokenizer(["b", "a", "a"])


@pytest.mark.parametrize(("option", "value"), [("min_count", 0), ("vocab_size", 3)])
def test_values_out_of_range_are_refused(option: str, value: int) -> None:
    with pytest.raises(UserError, match=rf"data\.{option}={value}: it must be"):
        fit_tokenizer("word", TEXTS, **{option: value})
