"""Text to ids and back: what a tokenizer is, and the one that has an id for each whole word."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, Self

from attnframe.data.words import join_words, split_words
from attnframe.errors import UserError, did_you_mean

PAD: Final = 0
BOS: Final = 1
EOS: Final = 2
UNK: Final = 3
SPECIAL_TOKENS: Final = ("<pad>", "<bos>", "<eos>", "<unk>")
"""Spelling of the special ids, at their id. They are names for people: no text is ever encoded as PAD, BOS or EOS."""


class Tokenizer(Protocol):
    """The vocabulary of one language.

    Ids 0 to 3 are PAD, BOS, EOS and UNK in every tokenizer. `pieces`, `encode` and `word_ids` of one text have the same
    length, one entry for each piece.
    """

    def __len__(self) -> int:
        """Number of ids, the special ones included: every id is in [0, len)."""
        ...

    def pieces(self, text: str) -> list[str]:
        """The text cut into pieces, as they are written in the text (unknown ones too)."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of the pieces; no BOS or EOS is added."""
        ...

    def word_ids(self, text: str) -> list[int]:
        """For each piece the index of its word in `split_words(text)`: never falling, and no word is left out."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids before the first EOS, without PAD and BOS; UNK is printed as ``<unk>``."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold, with the kind of tokenizer under ``"name"``, for `tokenizer_from_state`."""
        ...


class WordTokenizer:
    """One id for each word of `split_words`.

    `words` are the known words in the order of their ids, which start after the special ones. Raises ValueError where
    a word is given twice.
    """

    name: Final = "word"

    def __init__(self, words: Sequence[str]) -> None:
        self._words = tuple(words)
        # The special spellings are not keys: a text that contains them literally gets words or UNK, never a special id.
        self._ids = {word: index for index, word in enumerate(self._words, start=len(SPECIAL_TOKENS))}
        if len(self._ids) != len(self._words):
            twice = next(word for word, count in Counter(self._words).items() if count > 1)
            raise ValueError(f"the vocabulary holds the word {twice!r} twice")

    @classmethod
    def fit(cls, texts: Iterable[str], *, min_count: int = 1, max_size: int | None = None) -> Self:
        """Vocabulary of `texts`: words seen at least `min_count` times, the most frequent first, then by alphabet.

        `max_size` is the largest length allowed, special tokens included; the rarest words go first. Raises UserError
        for a `min_count` below 1 and a `max_size` that leaves no room for the special tokens.
        """
        if min_count < 1:
            raise UserError(f"min_count is {min_count}: it must be 1 or more")
        if max_size is not None and max_size < len(SPECIAL_TOKENS):
            room = len(SPECIAL_TOKENS)
            raise UserError(f"max_size is {max_size}: it must be {room} or more, to hold the special tokens")
        counts = Counter(word for text in texts for word in split_words(text))
        ranked = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
        return cls(ranked if max_size is None else ranked[: max_size - len(SPECIAL_TOKENS)])

    def __len__(self) -> int:
        """Number of ids, the special ones included."""
        return len(SPECIAL_TOKENS) + len(self._words)

    def pieces(self, text: str) -> list[str]:
        """The words of `text`."""
        return split_words(text)

    def encode(self, text: str) -> list[int]:
        """Ids of the words of `text`, UNK for those not in the vocabulary; no BOS or EOS is added."""
        return [self._ids.get(word, UNK) for word in split_words(text)]

    def word_ids(self, text: str) -> list[int]:
        """0, 1, 2, ...: each piece is a word."""
        return list(range(len(split_words(text))))

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids before the first EOS, without PAD and BOS; UNK is printed as ``<unk>``.

        The inverse of `encode` up to white space where every word is known. Raises ValueError for an id outside the
        vocabulary.
        """
        words: list[str] = []
        for index in ids:
            if index == EOS:
                break
            if not 0 <= index < len(self):
                raise ValueError(f"id {index} is outside the vocabulary of {len(self)}")
            if index == UNK:
                words.append(SPECIAL_TOKENS[UNK])
            elif index not in (PAD, BOS):
                words.append(self._words[index - len(SPECIAL_TOKENS)])
        return join_words(words)

    def state_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        return {"name": self.name, "words": list(self._words)}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """The tokenizer whose `state_dict` this is."""
        return cls(state["words"])


_KINDS: Final[Mapping[str, type[WordTokenizer]]] = {WordTokenizer.name: WordTokenizer}


def fit_tokenizer(name: str, texts: Iterable[str], **options: Any) -> Tokenizer:
    """The tokenizer called `name`, fitted to the sentences of one language.

    Raises UserError for an unknown name, naming the nearest, and for an option that this tokenizer does not have.
    """
    kind = _kind(name)
    known = [key for key, p in inspect.signature(kind.fit).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for option in options:
        if option not in known:
            raise UserError(f"tokenizer {name!r} has no option {option!r}: {did_you_mean(option, known)}")
    return kind.fit(texts, **options)


def tokenizer_from_state(state: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer that wrote `state` with `state_dict`. Raises UserError where its kind is unknown."""
    return _kind(str(state.get("name"))).from_state_dict(state)


def _kind(name: str) -> type[WordTokenizer]:
    if name not in _KINDS:
        raise UserError(f"data.tokenizer is {name!r}, which is unknown: {did_you_mean(name, _KINDS)}")
    return _KINDS[name]
