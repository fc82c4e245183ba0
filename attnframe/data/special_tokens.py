"""The ids that stand for no text, the same in every vocabulary."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

PAD: Final = 0
BOS: Final = 1
EOS: Final = 2
UNK: Final = 3
SPECIAL_TOKENS: Final = ("<pad>", "<bos>", "<eos>", "<unk>")
"""Spelling of the special ids, at their id. They are names for people: no text is ever encoded as PAD, BOS or EOS."""


def sentence_ids(ids: Iterable[int], vocab_size: int) -> Iterator[int]:
    """The ids before the first EOS, without PAD and BOS. Raises ValueError for one outside of the vocabulary."""
    for index in ids:
        if index == EOS:
            return
        if not 0 <= index < vocab_size:
            raise ValueError(f"id {index} is outside the vocabulary of {vocab_size}")
        if index not in (PAD, BOS):
            yield index
