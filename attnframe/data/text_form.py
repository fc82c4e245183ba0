"""The form in which a tokenizer sees text: Unicode form, case and words."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal, cast

from attnframe.data.schema import SentencePair
from attnframe.data.words import join_words, split_words
from attnframe.errors import UserError, did_you_mean

NORMALIZATIONS: Final = ("NFC", "NFKC")
"""Unicode's composed forms (https://unicode.org/reports/tr15/). The decomposed ones would cut accented letters: their
accents are characters of their own, which `split_words` takes for punctuation."""


@dataclass(frozen=True, slots=True)
class TextForm:
    """What is done to a text before it has pieces.

    The Unicode form comes first, then the text is split into words, and only then they are lower-cased: so the case
    never decides which word a word is. Raises UserError for a `normalization` that is neither None nor one of
    `NORMALIZATIONS`.
    """

    lowercase: bool = False
    normalization: str | None = None

    def __post_init__(self) -> None:
        if self.normalization is not None and self.normalization not in NORMALIZATIONS:
            hint = did_you_mean(self.normalization, NORMALIZATIONS)
            raise UserError(f"data.normalization={self.normalization}: it is null or a Unicode form; {hint}")

    def words(self, text: str) -> list[str]:
        """Words of `text` in this form."""
        words = split_words(normalized(text, self.normalization))
        return [word.lower() for word in words] if self.lowercase else words

    def normalize(self, text: str) -> str:
        """`text` in this form, with single spaces."""
        return join_words(self.words(text))


def normalized(text: str, normalization: str | None) -> str:
    """`text` in a Unicode form, or as it is for None."""
    return text if normalization is None else unicodedata.normalize(cast(Literal["NFC"], normalization), text)


def check_word_numbers(pairs: Iterable[SentencePair], normalization: str | None) -> None:
    """Raise UserError where a Unicode form changes how many words a text has whose gold links count them."""
    for pair in pairs:
        for text in (pair.source, pair.target) if pair.alignment is not None else ():
            seen = normalized(text, normalization)
            if seen != text and len(split_words(seen)) != len(split_words(text)):
                raise UserError(
                    f"data.normalization={normalization}: it changes the number of words in {text!r} of the pair "
                    f"{pair.id}, whose gold links count them; set it to null, or align the text in that form"
                )
