from __future__ import annotations

import random
import unicodedata
from typing import Literal

import pytest

from attnframe.data.schema import Alignment, SentencePair
from attnframe.data.text_form import NORMALIZATIONS, TextForm, check_word_numbers
from attnframe.data.words import split_words
from attnframe.errors import UserError

# Letters with and without composed forms, compatibility characters (ligature, ellipsis, full width), spaces of all
# kinds, punctuation that the words rule looks at, and its own signs.
ALPHABET = "aÀéE\u0301e\u0327\u0308oÅﬁ…Ａ１½ \u00a0\u202f\tl'L\u2019-.,«»?(ⅣǅŒ\uffed\u2581漢"


def random_texts(seed: int, count: int = 400) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices(ALPHABET, k=rng.randint(0, 23))) for _ in range(count)]


@pytest.mark.parametrize("form", [None, "NFC", "NFKC"])
def test_the_form_is_that_of_unicodedata_with_single_spaces(form: Literal["NFC", "NFKC"] | None) -> None:
    changed = 0
    for text in random_texts(3):
        expected = text if form is None else unicodedata.normalize(form, text)
        assert TextForm(normalization=form).normalize(text) == " ".join(expected.split())
        assert TextForm(lowercase=True, normalization=form).normalize(text) == " ".join(expected.split()).lower()
        changed += expected != text
    assert (changed > 50) == (form is not None)


@pytest.mark.parametrize("form", [None, *NORMALIZATIONS])
def test_lower_casing_changes_no_word_number(form: str | None) -> None:
    for text in [*random_texts(5), "\u0130stanbul d'\u0130zmir", "ΟΔΟΣ QU'ELLE"]:
        words = TextForm(normalization=form).words(text)
        assert TextForm(lowercase=True, normalization=form).words(text) == [word.lower() for word in words]
    # Lower-cased first, the capital letter would fall apart into a letter and a dot.
    assert len(split_words("\u0130stanbul".lower())) > len(split_words("\u0130stanbul"))


def test_the_unicode_form_comes_before_the_words() -> None:
    decomposed = unicodedata.normalize("NFD", "l'été")
    assert TextForm(normalization="NFC").words(decomposed) == ["l'", "été"]
    assert len(TextForm().words(decomposed)) > 2


@pytest.mark.parametrize("form", ["NFD", "nfc", ""])
def test_other_forms_are_refused(form: str) -> None:
    with pytest.raises(UserError, match=rf"data\.normalization={form}: it is null or a Unicode form; .*NFC, NFKC"):
        TextForm(normalization=form)


def test_gold_links_must_keep_their_words() -> None:
    decomposed = unicodedata.normalize("NFD", "l'été")
    linked = SentencePair("train-7", "the summer", decomposed, Alignment(frozenset({(1, 1)})))
    for form in (None, "NFC"):
        check_word_numbers([SentencePair("a", "the summer", decomposed)], form)
        check_word_numbers([SentencePair("b", "the sum\u00a0mer", "l'été", linked.alignment)], form)
    check_word_numbers([linked], None)
    with pytest.raises(UserError, match=r"data\.normalization=NFC: .*number of words.*train-7.*null"):
        check_word_numbers([linked], "NFC")
