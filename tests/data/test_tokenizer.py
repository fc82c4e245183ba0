from __future__ import annotations

import json
import random

import pytest

from attnframe.data.tokenizer import (
    BOS,
    EOS,
    PAD,
    SPECIAL_TOKENS,
    UNK,
    Tokenizer,
    WordTokenizer,
    fit_tokenizer,
    tokenizer_from_state,
)
from attnframe.data.words import split_words
from attnframe.errors import UserError

TEXTS = ("the cat sees the dog.", "a dog sees (nobody), really ?", "l'homme n'a pas vu le chien.")


def test_special_ids_are_those_that_the_model_relies_on() -> None:
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    assert [SPECIAL_TOKENS[i] for i in (PAD, BOS, EOS, UNK)] == ["<pad>", "<bos>", "<eos>", "<unk>"]


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
    limited = WordTokenizer.fit(texts, max_size=7)
    assert len(limited) == 7
    assert limited.encode("a b c d") == [6, 5, 4, UNK]
    assert len(WordTokenizer.fit(texts, max_size=4)) == 4


@pytest.mark.parametrize("text", TEXTS)
def test_decoding_gives_back_known_text(text: str) -> None:
    tokenizer = WordTokenizer.fit(TEXTS)
    assert UNK not in tokenizer.encode(text)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_decoding_gives_back_random_known_text() -> None:
    rng = random.Random(5)
    texts = ["".join(rng.choices("ab'\u2019- .«»?(😀<pad>▁", k=23)) for _ in range(300)]
    tokenizer = WordTokenizer.fit(texts)
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == " ".join(text.split())


def test_decoding_skips_padding_stops_at_the_end_and_prints_unknown_words() -> None:
    tokenizer = WordTokenizer.fit(["the cat."])
    the, cat, stop = tokenizer.encode("the cat.")
    assert tokenizer.decode([BOS, the, PAD, UNK, stop, EOS, cat]) == "the <unk>."
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode([BOS, EOS, the]) == ""


@pytest.mark.parametrize("index", [-1, 7])
def test_an_id_outside_the_vocabulary_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match=f"id {index} is outside the vocabulary of 7"):
        WordTokenizer.fit(["the cat."]).decode([4, index])


@pytest.mark.parametrize("special", SPECIAL_TOKENS)
def test_text_never_becomes_a_special_id(special: str) -> None:
    text = f"a {special} b{special}"
    tokenizer = WordTokenizer.fit([text])
    ids = tokenizer.encode(text)
    assert min(ids) >= len(SPECIAL_TOKENS)
    assert tokenizer.decode(ids) == text
    assert set(WordTokenizer(["a"]).encode(special)) == {UNK}


def test_a_word_that_is_spelt_like_a_special_token_keeps_an_id_of_its_own() -> None:
    tokenizer = WordTokenizer(["<pad>", "<eos>", "x"])
    assert tokenizer.decode([4, 6, 5, 6]) == "<pad> x <eos> x"


def test_pieces_ids_and_word_ids_run_side_by_side() -> None:
    tokenizer = WordTokenizer.fit(TEXTS[:1])
    for text in (*TEXTS, ""):
        pieces, word_ids = tokenizer.pieces(text), tokenizer.word_ids(text)
        assert len(pieces) == len(word_ids) == len(tokenizer.encode(text))
        assert [split_words(text)[i] for i in word_ids] == pieces


def test_the_state_survives_json() -> None:
    tokenizer = fit_tokenizer("word", TEXTS, min_count=2)
    again: Tokenizer = tokenizer_from_state(json.loads(json.dumps(tokenizer.state_dict())))
    assert len(again) == len(tokenizer)
    for text in TEXTS:
        assert again.encode(text) == tokenizer.encode(text)
        assert again.decode(again.encode(text)) == tokenizer.decode(tokenizer.encode(text))


def test_a_vocabulary_with_a_word_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'a' twice"):
        WordTokenizer(["b", "a", "a"])


def test_unknown_names_and_options_are_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'wrod'.*did you mean 'word'"):
        fit_tokenizer("wrod", TEXTS)
    with pytest.raises(UserError, match=r"'wrod'.*did you mean 'word'"):
        tokenizer_from_state({"name": "wrod"})
    with pytest.raises(UserError, match=r"'min_cuont'.*did you mean 'min_count'"):
        fit_tokenizer("word", TEXTS, min_cuont=2)


@pytest.mark.parametrize(("option", "value"), [("min_count", 0), ("max_size", 3)])
def test_values_out_of_range_are_refused(option: str, value: int) -> None:
    with pytest.raises(UserError, match=f"{option} is {value}"):
        fit_tokenizer("word", TEXTS, **{option: value})
