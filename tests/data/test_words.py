from __future__ import annotations

import random

import pytest

from attnframe.data.words import GLUED, SPACED, join_words, split_words

# Every kind of character that the splitting rule looks at, and scripts it was not written for.
ALPHABETS = (
    "ab'\u2019- \t\n",
    "lLnqujsQ'\u2019 hoéÉœ",
    ".,;:!?…()[]{}«»%\"' \u00a0\u202fa",
    f"{GLUED}{SPACED} a.'(",
    "😀👩\u200d🚀🇫🇷 a.\ufe0f",
    "שלום مرحبا\u200f\u200e\u0301 ?",
    "漢字かな。、 ٣²½_",
    "".join(map(chr, range(0, 0x100))),
)


@pytest.mark.parametrize("alphabet", ALPHABETS, ids=range(len(ALPHABETS)))
def test_joining_gives_back_the_text_over_each_alphabet(alphabet: str) -> None:
    rng = random.Random(7)
    for _ in range(1500):
        text = "".join(rng.choices(alphabet, k=rng.randint(0, 19)))
        assert join_words(split_words(text)) == " ".join(text.split()), repr(text)


def test_joining_gives_back_any_unicode_text() -> None:
    rng = random.Random(11)
    for _ in range(3000):
        planes = rng.choice((0x80, 0x2100, 0x10000, 0x110000))
        text = "".join(chr(rng.randrange(planes)) for _ in range(rng.randint(0, 13)))
        assert join_words(split_words(text)) == " ".join(text.split()), repr(text)


def test_words_hold_every_visible_character_once_and_in_order() -> None:
    rng = random.Random(13)
    for _ in range(1000):
        text = "".join(rng.choices("abé'\u2019-.«» ?(L", k=17))
        words = [word.lstrip(GLUED + SPACED) for word in split_words(text)]
        assert "".join(words) == "".join(text.split())
        assert all(words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \n\t ", []),
        ("L'homme n'a pas vu le chien.", ["L'", "homme", "n'", "a", "pas", "vu", "le", "chien", "."]),
        ("jusqu'ici, qu\u2019elle", ["jusqu'", "ici", ",", "qu\u2019", "elle"]),
        ("aujourd'hui est-ce", ["aujourd'hui", "est-ce"]),
        ("Don't stop!", ["Don't", "stop", "!"]),
        ("the dogs' bowl", ["the", "dogs'", f"{SPACED}bowl"]),
        ("a ' b", ["a", "'", "b"]),
        ("Où ?", ["Où", f"{SPACED}?"]),
        ("(a b)", ["(", "a", "b", ")"]),
        ("a,b", ["a", ",", f"{GLUED}b"]),
    ],
)
def test_hand_split_sentences(text: str, words: list[str]) -> None:
    assert split_words(text) == words
    assert join_words(words) == " ".join(text.split())


def test_the_same_word_looks_the_same_wherever_the_spacing_rule_holds() -> None:
    middle = split_words("the cat sees the dog , says the cat.")
    assert {word for word in middle if "cat" in word} == {"cat"}


def test_white_space_inside_a_text_counts_as_one_space() -> None:
    assert join_words(split_words("  a\u00a0 b\r\n\tc ")) == "a b c"
