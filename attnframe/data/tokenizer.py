"""Text to ids and back: what a tokenizer is, and how one is fitted and restored by name."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

from attnframe.data.bpe import BpeTokenizer
from attnframe.data.special_tokens import BOS, EOS, PAD, SPECIAL_TOKENS, UNK
from attnframe.data.word_tokenizer import WordTokenizer
from attnframe.data.words import GLUED, SPACED, without_marker
from attnframe.errors import UserError, did_you_mean

__all__ = [
    "BOS",
    "EOS",
    "PAD",
    "SPECIAL_TOKENS",
    "UNK",
    "Tokenizer",
    "fit_tokenizer",
    "seen_words",
    "spaced_otherwise",
    "tokenizer_from_state",
    "unknown_words",
]


class Tokenizer(Protocol):
    """The vocabulary of one language.

    Ids 0 to 3 are PAD, BOS, EOS and UNK in every tokenizer. `pieces`, `encode` and `word_ids` of one text have the same
    length, one entry for each piece. No piece reaches over the end of a word of `split_words`.
    """

    def __len__(self) -> int:
        """Number of ids, the special ones included: every id is in [0, len)."""
        ...

    @property
    def lowercase(self) -> bool:
        """Whether every word is lower-cased, so that no upper case ever comes out of `decode`."""
        ...

    def normalize(self, text: str) -> str:
        """The text as this tokenizer sees it: its Unicode form, its case, single spaces.

        `decode(encode(text))` is this where every piece is known.
        """
        ...

    def pieces(self, text: str) -> list[str]:
        """The text cut into pieces, as they are written in `normalize(text)` (unknown ones too)."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of the pieces; no BOS or EOS is added."""
        ...

    def word_ids(self, text: str) -> list[int]:
        """For each piece the index of its word in `split_words` of the text in its Unicode form.

        Never falling, and no word is left out; lower-casing plays no part.
        """
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids before the first EOS, without PAD and BOS; UNK is printed as ``<unk>``."""
        ...

    def label(self, index: int) -> str:
        """The piece with this id for people to read: without signs for spacing, and a special id by its name.

        A piece that goes on in the same word ends in ``@@`` (the sign of https://github.com/rsennrich/subword-nmt); an
        end of a word that is a piece of its own is ``␣``.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold, with the kind of tokenizer under ``"name"``, for `tokenizer_from_state`."""
        ...


Kind = type[WordTokenizer] | type[BpeTokenizer]

KINDS: Final[Mapping[str, Kind]] = {kind.name: kind for kind in (WordTokenizer, BpeTokenizer)}


def fit_tokenizer(
    name: str, texts: Iterable[str], *, lowercase: bool = False, normalization: str | None = None, **options: Any
) -> Tokenizer:
    """The tokenizer called `name`, fitted to the sentences of one language.

    `normalization` (None, "NFC" or "NFKC") is applied to a text before it is split into words, `lowercase` to each word
    after. Further options: `vocab_size`, and `min_count` for `word`. Raises UserError for an unknown name, naming the
    nearest, for an option that this tokenizer does not have, and for a value out of range.
    """
    kind = _kind(name)
    known = [key for key, p in inspect.signature(kind.fit).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for option, value in options.items():
        if option not in known:
            hint = did_you_mean(option, known)
            raise UserError(f"data.{option}={value}: the tokenizer {name!r} has no option {option!r}; {hint}")
    return kind.fit(texts, lowercase=lowercase, normalization=normalization, **options)


def tokenizer_from_state(state: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that wrote `state` with `state_dict`. Raises UserError where its kind is unknown."""
    return _kind(str(state.get("name"))).from_state_dict(state)


def seen_words(tokenizer: Tokenizer, text: str) -> list[str]:
    """The words of `text` as the tokenizer sees them, for people to read: without the signs for spacing."""
    words: dict[int, str] = {}
    for word, piece in zip(tokenizer.word_ids(text), tokenizer.pieces(text), strict=True):
        words[word] = words.get(word, "") + piece
    return [without_marker(word) for word in words.values()]


def unknown_words(tokenizer: Tokenizer, text: str) -> list[str]:
    """Those of `seen_words` that have a piece outside the vocabulary."""
    pieces = zip(tokenizer.word_ids(text), tokenizer.encode(text), strict=True)
    unknown = {word for word, index in pieces if index == UNK}
    return [word for number, word in enumerate(seen_words(tokenizer, text)) if number in unknown]


def spaced_otherwise(tokenizer: Tokenizer, text: str) -> dict[str, bool]:
    """Those of `unknown_words` that are known with other spacing, each with whether a space is before it here."""
    firsts: dict[int, str] = {}
    for number, piece in zip(tokenizer.word_ids(text), tokenizer.pieces(text), strict=True):
        firsts.setdefault(number, piece)
    unknown = unknown_words(tokenizer, text)
    signs = {
        word: firsts[number][0]
        for number, word in enumerate(seen_words(tokenizer, text))
        if word in unknown and firsts[number][:1] in (GLUED, SPACED) and firsts[number] != word
    }
    return {word: sign == SPACED for word, sign in signs.items() if not unknown_words(tokenizer, word)}


def _kind(name: str) -> Kind:
    if name not in KINDS:
        raise UserError(f"data.tokenizer={name}: there is no such tokenizer; {did_you_mean(name, KINDS)}")
    return KINDS[name]
