"""The tokenizer that cuts words into frequent pieces: byte-pair encoding, learned and applied by `tokenizers`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Self

from attnframe.data.special_tokens import SPECIAL_TOKENS, UNK, sentence_ids
from attnframe.data.text_form import TextForm
from attnframe.data.words import GLUED, SPACED, join_words, without_marker
from attnframe.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Token

DEFAULT_VOCAB_SIZE: Final = 8000

# The symbol for the end of a word. No word holds white space, so pieces put side by side are words with their spaces.
_END: Final = " "
# A pair seen once says nothing about what is frequent.
_LEAST_PAIR_COUNT: Final = 2


class BpeTokenizer:
    """Byte-pair encoding: words of `split_words`, in the form of `lowercase` and `normalization`, cut into pieces.

    A word starts as its characters and an end-of-word symbol, and the pairs of symbols in `merges` are joined, the
    first merge first (Sennrich, Haddow & Birch 2016, section 3.2, https://arxiv.org/abs/1508.07909). No piece reaches
    over the end of a word. `vocabulary` are the pieces in the order of their ids, which start after the special ones;
    there the end of a word is a space. Where no merge takes it in, it is a piece of its own, which `pieces` writes as
    the empty string. A character that is no piece is UNK, each by itself. Raises ValueError where a piece is given
    twice or a merge joins what are no pieces.
    """

    name: Final = "bpe"

    def __init__(
        self,
        vocabulary: Sequence[str],
        merges: Sequence[tuple[str, str]],
        *,
        lowercase: bool = False,
        normalization: str | None = None,
    ) -> None:
        # Here and not above: only who uses it pays for the library.
        from tokenizers.models import BPE

        self._form = TextForm(lowercase, normalization)
        self._vocabulary = tuple(vocabulary)
        self._merges = tuple(merges)
        # The special spellings are no pieces: "<" is a word of its own wherever it stands.
        ids = {piece: index for index, piece in enumerate((*SPECIAL_TOKENS, *self._vocabulary))}
        if len(ids) != len(self):
            raise ValueError("the vocabulary holds a piece twice")
        if not all(piece in ids for left, right in merges for piece in (left, right, left + right)):
            raise ValueError("a merge joins what are no pieces of the vocabulary")
        self._model = BPE(vocab=ids, merges=list(merges), unk_token=SPECIAL_TOKENS[UNK])

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        *,
        lowercase: bool = False,
        normalization: str | None = None,
        vocab_size: int | None = None,
    ) -> Self:
        """Pieces of `texts`: their characters, and merges of the most frequent pair while it occurs at least twice.

        `vocab_size` is the largest length allowed, special tokens included (None: 8000). The order of the texts does
        not matter; of pairs of equal frequency the one with the lower ids comes first. Raises UserError where the
        characters alone do not fit.
        """
        from tokenizers import Tokenizer
        from tokenizers.models import BPE
        from tokenizers.trainers import BpeTrainer

        form = TextForm(lowercase, normalization)
        counts = Counter(word + _END for text in texts for word in form.words(text))
        # The signs for spacing that breaks the rule are known even where the training text never does.
        alphabet = {_END, GLUED, SPACED}.union(*counts)
        size = DEFAULT_VOCAB_SIZE if vocab_size is None else vocab_size
        needed = len(SPECIAL_TOKENS) + len(alphabet)
        if size < needed:
            raise UserError(
                f"data.vocab_size={size}: it must be {needed} or more, for {len(SPECIAL_TOKENS)} special tokens and "
                f"the {len(alphabet)} different characters of the training text"
            )
        learner = Tokenizer(BPE())
        trainer = BpeTrainer(
            vocab_size=size - len(SPECIAL_TOKENS),
            min_frequency=_LEAST_PAIR_COUNT,
            initial_alphabet=sorted(alphabet),
            show_progress=False,
        )
        learner.train_from_iterator(counts.elements(), trainer)
        learned = json.loads(learner.to_str())["model"]
        vocabulary = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
        merges = [(left, right) for left, right in learned["merges"]]
        return cls(vocabulary, merges, lowercase=lowercase, normalization=normalization)

    def __len__(self) -> int:
        """Number of ids, the special ones included."""
        return len(SPECIAL_TOKENS) + len(self._vocabulary)

    @property
    def lowercase(self) -> bool:
        """Whether every word is lower-cased."""
        return self._form.lowercase

    def normalize(self, text: str) -> str:
        """`text` as this tokenizer sees it."""
        return self._form.normalize(text)

    def pieces(self, text: str) -> list[str]:
        """The pieces of the words of `text`, as they are written there; those of a word, joined, are the word."""
        pieces: list[str] = []
        for word in self._form.words(text):
            start = 0
            for token in self._cut(word):
                end = start + (1 if token.id == UNK else len(token.value))
                pieces.append(word[start:end])
                start = end
        return pieces

    def encode(self, text: str) -> list[int]:
        """Ids of the pieces of `text`, UNK for each unknown character; no BOS or EOS is added."""
        return [token.id for word in self._form.words(text) for token in self._cut(word)]

    def word_ids(self, text: str) -> list[int]:
        """For each piece the index of its word."""
        return [index for index, word in enumerate(self._form.words(text)) for _ in self._cut(word)]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of the ids before the first EOS, without PAD and BOS; UNK is printed as ``<unk>``.

        Gives `normalize(text)` for the ids of a text of which every piece is known. Raises ValueError for an id outside
        the vocabulary.
        """
        return join_words("".join(self._spelling(index) for index in sentence_ids(ids, len(self))).split())

    def label(self, index: int) -> str:
        """The piece with this id for people to read: without the sign for spacing, and a special id by its name.

        One that goes on in the same word ends in ``@@``; an end of a word that is a piece of its own is ``␣``.
        """
        if index < len(SPECIAL_TOKENS):
            return SPECIAL_TOKENS[index]
        piece = self._spelling(index)
        return (without_marker(piece[:-1]) or "␣") if piece.endswith(_END) else f"{without_marker(piece)}@@"

    def _cut(self, word: str) -> list[Token]:
        return self._model.tokenize(word + _END)

    def _spelling(self, index: int) -> str:
        return SPECIAL_TOKENS[UNK] if index == UNK else self._vocabulary[index - len(SPECIAL_TOKENS)]

    def state_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        form = {"lowercase": self._form.lowercase, "normalization": self._form.normalization}
        merges = [list(pair) for pair in self._merges]
        return {"name": self.name, **form, "vocabulary": list(self._vocabulary), "merges": merges}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """The tokenizer whose `state_dict` this is. Raises KeyError where something is missing in it."""
        merges = [(left, right) for left, right in state["merges"]]
        return cls(state["vocabulary"], merges, lowercase=state["lowercase"], normalization=state["normalization"])
