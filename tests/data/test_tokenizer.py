"""What every tokenizer promises."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from typing import Any

import pytest

from attnframe.data.tokenizer import (
    BOS,
    EOS,
    PAD,
    SPECIAL_TOKENS,
    UNK,
    Tokenizer,
    fit_tokenizer,
    seen_words,
    spaced_otherwise,
    tokenizer_from_state,
    unknown_words,
)
from attnframe.data.words import GLUED, SPACED, split_words
from attnframe.errors import UserError

TEXTS = ("the cat sees the dog.", "a dog sees (nobody), really ?", "l'homme n'a pas vu le chien.")
NAMES = ("word", "bpe")
FORMS: tuple[dict[str, Any], ...] = ({}, {"lowercase": True}, {"normalization": "NFKC"}, {"normalization": "NFC"})


def random_texts(alphabet: str, count: int, seed: int = 5) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(alphabet, k=rng.randint(0, 23))) for _ in range(count)]


def test_special_ids_are_those_that_the_model_relies_on() -> None:
    assert (PAD, BOS, EOS, UNK) == (0, 1, 2, 3)
    assert [SPECIAL_TOKENS[i] for i in (PAD, BOS, EOS, UNK)] == ["<pad>", "<bos>", "<eos>", "<unk>"]


@pytest.mark.parametrize("options", FORMS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_decoding_gives_back_known_text(name: str, options: dict[str, Any]) -> None:
    alphabet = f"abAÉe\u0301'\u2019- .«»?(😀<pad>{GLUED}{SPACED}ﬁ"
    texts = [*TEXTS, *random_texts(alphabet, 300)]
    tokenizer = fit_tokenizer(name, texts, **options)
    for text in texts:
        ids = tokenizer.encode(text)
        assert not {PAD, BOS, EOS, UNK} & set(ids)
        assert tokenizer.decode(ids) == tokenizer.normalize(text)
    assert tokenizer.normalize(" The\tcat\n") == ("the cat" if tokenizer.lowercase else "The cat")
    assert tokenizer.lowercase == options.get("lowercase", False)


@pytest.mark.parametrize("name", NAMES)
def test_without_options_only_white_space_changes(name: str) -> None:
    texts = random_texts("ab e\u0301ﬁA'.\u00a0", 100)
    tokenizer = fit_tokenizer(name, texts)
    for text in texts:
        assert tokenizer.normalize(text) == " ".join(text.split())


@pytest.mark.parametrize("name", NAMES)
def test_pieces_ids_and_word_ids_run_side_by_side(name: str) -> None:
    tokenizer = fit_tokenizer(name, TEXTS[:1], lowercase=True)
    for text in (*TEXTS, "", "Żółw 漢字! A,b", *random_texts("aB'.é漢", 50)):
        pieces, word_ids = tokenizer.pieces(text), tokenizer.word_ids(text)
        assert len(pieces) == len(word_ids) == len(tokenizer.encode(text))
        words = split_words(text)
        assert word_ids == sorted(word_ids)
        assert set(word_ids) == set(range(len(words)))
        for number, word in enumerate(words):
            assert "".join(p for p, w in zip(pieces, word_ids, strict=True) if w == number) == word.lower()


@pytest.mark.parametrize("name", NAMES)
def test_unknown_text_is_printed_as_such(name: str) -> None:
    tokenizer = fit_tokenizer(name, ["the cat."])
    ids = tokenizer.encode("the é.")
    assert ids.count(UNK) == 1
    assert tokenizer.decode(ids) == "the <unk>."


@pytest.mark.parametrize("name", NAMES)
def test_decoding_skips_padding_and_stops_at_the_end(name: str) -> None:
    tokenizer = fit_tokenizer(name, ["the cat."])
    the, cat = tokenizer.encode("the"), tokenizer.encode("cat.")
    assert tokenizer.decode([BOS, *the, PAD, *cat, EOS, *the]) == "the cat."
    assert tokenizer.decode([]) == tokenizer.decode([BOS, EOS, *the]) == tokenizer.decode([PAD]) == ""


@pytest.mark.parametrize("name", NAMES)
def test_an_id_outside_the_vocabulary_is_refused(name: str) -> None:
    tokenizer = fit_tokenizer(name, ["the cat."])
    for index in (-1, len(tokenizer)):
        with pytest.raises(ValueError, match=f"id {index} is outside the vocabulary of {len(tokenizer)}"):
            tokenizer.decode([len(tokenizer) - 1, index])


@pytest.mark.parametrize("special", SPECIAL_TOKENS)
@pytest.mark.parametrize("name", NAMES)
def test_text_never_becomes_a_special_id(name: str, special: str) -> None:
    text = f"a {special} b{special} {special}{special}"
    tokenizer = fit_tokenizer(name, [text] * 3)
    ids = tokenizer.encode(text)
    assert min(ids) >= len(SPECIAL_TOKENS)
    assert tokenizer.decode(ids) == text
    assert min(fit_tokenizer(name, ["a"]).encode(special)) >= UNK


@pytest.mark.parametrize("options", FORMS, ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_the_state_survives_json(name: str, options: dict[str, Any]) -> None:
    tokenizer = fit_tokenizer(name, TEXTS[:2], **options)
    again: Tokenizer = tokenizer_from_state(json.loads(json.dumps(tokenizer.state_dict())))
    assert again.state_dict() == tokenizer.state_dict()
    assert (len(again), again.lowercase) == (len(tokenizer), tokenizer.lowercase)
    for text in (*TEXTS, "The ﬁn e\u0301t"):
        assert again.pieces(text) == tokenizer.pieces(text)
        assert again.encode(text) == tokenizer.encode(text)
        assert again.normalize(text) == tokenizer.normalize(text)
        assert again.decode(again.encode(text)) == tokenizer.decode(tokenizer.encode(text))


@pytest.mark.parametrize("name", NAMES)
def test_a_state_without_the_form_of_its_text_is_refused(name: str) -> None:
    for key in ("lowercase", "normalization"):
        state = fit_tokenizer(name, TEXTS).state_dict()
        del state[key]
        with pytest.raises(KeyError, match=key):
            tokenizer_from_state(state)


@pytest.mark.parametrize("name", NAMES)
def test_words_and_unknown_words_as_people_read_them(name: str) -> None:
    tokenizer = fit_tokenizer(name, ["the cat sees the dog , did ?"], lowercase=True)
    assert seen_words(tokenizer, "The Cat(did) ÇÜñ, \u0130t?") == [
        "the",
        "cat",
        "(",
        "did",
        ")",
        "çüñ",
        ",",
        "i\u0307t",
        "?",
    ]
    assert unknown_words(tokenizer, "the Cat sees.") == ["."]
    assert unknown_words(tokenizer, "the ÇÜñ sees the \u0130xx; did ö xx") == ["çüñ", "i\u0307xx", ";", "ö", "xx"]
    assert unknown_words(tokenizer, "") == seen_words(tokenizer, " ") == []


def test_words_that_are_known_with_other_spacing() -> None:
    texts, other = ["the dog sleeps.", "the dog sleeps (twice)."], 'the "dog" sleeps ( twice) .'
    tokenizer = fit_tokenizer("word", texts)
    assert spaced_otherwise(tokenizer, other) == {"dog": False, "twice": True, ".": True}
    # There the signs for spacing are pieces of their own.
    assert spaced_otherwise(fit_tokenizer("bpe", texts), other) == {}
    assert spaced_otherwise(tokenizer, "xx the dog sleeps.") == {}


def test_unknown_names_and_options_are_refused_with_the_nearest() -> None:
    with pytest.raises(UserError, match=r"data\.tokenizer=wrod: .*did you mean 'word'.*bpe, word"):
        fit_tokenizer("wrod", TEXTS)
    with pytest.raises(UserError, match=r"data\.tokenizer=wrod: .*did you mean 'word'"):
        tokenizer_from_state({"name": "wrod"})
    with pytest.raises(UserError, match=r"data\.min_cuont=2: .*'min_cuont'.*did you mean 'min_count'"):
        fit_tokenizer("word", TEXTS, min_cuont=2)
    with pytest.raises(UserError, match=r"data\.min_count=2: the tokenizer 'bpe' has no option 'min_count'"):
        fit_tokenizer("bpe", TEXTS, min_count=2)


def test_only_bpe_pays_for_its_library() -> None:
    program = """
import sys
from attnframe.data.tokenizer import fit_tokenizer
fit_tokenizer("word", ["a b"]).encode("a b")
assert "tokenizers" not in sys.modules
fit_tokenizer("bpe", ["a b"])
assert "tokenizers" in sys.modules
"""
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True, timeout=60)
