"""The tokenizer that has an id for each whole word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Self

from attnframe.data.special_tokens import SPECIAL_TOKENS, UNK, sentence_ids
from attnframe.data.text_form import TextForm
from attnframe.data.words import join_words, without_marker
from attnframe.errors import UserError


class WordTokenizer:
    """One id for each word of `split_words`, in the form of `lowercase` and `normalization`.

    `words` are the known words in the order of their ids, which start after the special ones. Raises ValueError where
    a word is given twice.
    """

    name: Final = "word"

    def __init__(self, words: Sequence[str], *, lowercase: bool = False, normalization: str | None = None) -> None:
        self._form = TextForm(lowercase, normalization)
        self._words = tuple(words)
        # The special spellings are not keys: a text that contains them literally gets words or UNK, never a special id.
        self._ids = {word: index for index, word in enumerate(self._words, start=len(SPECIAL_TOKENS))}
        if len(self._ids) != len(self._words):
            twice = next(word for word, count in Counter(self._words).items() if count > 1)
            raise ValueError(f"the vocabulary holds the word {twice!r} twice")

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        *,
        lowercase: bool = False,
        normalization: str | None = None,
        min_count: int = 1,
        vocab_size: int | None = None,
    ) -> Self:
        """Vocabulary of `texts`: words seen at least `min_count` times, the most frequent first, then by alphabet.

        `vocab_size` is the largest length allowed, special tokens included; the rarest words go first. Raises UserError
        for a `min_count` below 1 and a `vocab_size` that leaves no room for the special tokens.
        """
        if min_count < 1:
            raise UserError(f"data.min_count={min_count}: it must be 1 or more")
        if vocab_size is not None and vocab_size < len(SPECIAL_TOKENS):
            room = len(SPECIAL_TOKENS)
            raise UserError(f"data.vocab_size={vocab_size}: it must be {room} or more, to hold the special tokens")
        form = TextForm(lowercase, normalization)
        counts = Counter(word for text in texts for word in form.words(text))
        ranked = sorted((word for word, count in counts.items() if count >= min_count), key=lambda w: (-counts[w], w))
        known = ranked if vocab_size is None else ranked[: vocab_size - len(SPECIAL_TOKENS)]
        return cls(known, lowercase=lowercase, normalization=normalization)

    def __len__(self) -> int:
        """Number of ids, the special ones included."""
        return len(SPECIAL_TOKENS) + len(self._words)

    @property
    def lowercase(self) -> bool:
        """Whether every word is lower-cased."""
        return self._form.lowercase

    def normalize(self, text: str) -> str:
        """`text` as this tokenizer sees it."""
        return self._form.normalize(text)

    def pieces(self, text: str) -> list[str]:
        """The words of `text`."""
        return self._form.words(text)

    def encode(self, text: str) -> list[int]:
        """Ids of the words of `text`, UNK for those not in the vocabulary; no BOS or EOS is added."""
        return [self._ids.get(word, UNK) for word in self.pieces(text)]

    def word_ids(self, text: str) -> list[int]:
        """0, 1, 2, ...: each piece is a word."""
        return list(range(len(self.pieces(text))))

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids before the first EOS, without PAD and BOS; UNK is printed as ``<unk>``.

        Gives `normalize(text)` for the ids of a text of which every word is known. Raises ValueError for an id outside
        the vocabulary.
        """
        return join_words([self._spelling(index) for index in sentence_ids(ids, len(self))])

    def label(self, index: int) -> str:
        """The word with this id for people to read: without the sign for spacing, and a special id by its name."""
        return SPECIAL_TOKENS[index] if index < len(SPECIAL_TOKENS) else without_marker(self._spelling(index))

    def _spelling(self, index: int) -> str:
        return SPECIAL_TOKENS[UNK] if index == UNK else self._words[index - len(SPECIAL_TOKENS)]

    def state_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        form = {"lowercase": self._form.lowercase, "normalization": self._form.normalization}
        return {"name": self.name, **form, "words": list(self._words)}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """The tokenizer whose `state_dict` this is. Raises KeyError where something is missing in it."""
        return cls(state["words"], lowercase=state["lowercase"], normalization=state["normalization"])
