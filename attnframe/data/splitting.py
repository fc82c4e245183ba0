"""Training, validation and test set of a list of pairs: by a hash of the source sentence, so that none is in two."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from attnframe.data.schema import Alignment, SentencePair
from attnframe.errors import UserError

# What validation and test take where no size is given: this share of the source sentences, at most so many.
_SHARE = 10
_LARGEST_DEFAULT = 2000


class TextPair(NamedTuple):
    """A pair as it stands in a file. Text is NFC, with single spaces and none at the ends."""

    source: str
    target: str
    alignment: Alignment | None = None


class SourceGroups:
    """Pairs by source sentence, in the order of the file, exact duplicates left out.

    Two sources are one sentence when only case, white space or how Unicode writes a character tells them apart (NFKC:
    an accent beside its letter, three full stops as one character).
    """

    def __init__(self, pairs: Iterable[TextPair]) -> None:
        self.duplicates = 0
        """Pairs left out because the same two sentences came before."""
        self._groups: dict[str, dict[tuple[str, str], TextPair]] = {}
        for pair in pairs:
            group = self._groups.setdefault(source_key(pair.source), {})
            if (pair.source, pair.target) in group:
                self.duplicates += 1
            else:
                group[pair.source, pair.target] = pair

    def __len__(self) -> int:
        """Number of source sentences."""
        return len(self._groups)

    def split(self, val_size: int | None, test_size: int | None, *, place: str) -> dict[str, tuple[SentencePair, ...]]:
        """`train`, `val` and `test`. Sizes are in source sentences; None is a tenth of them, at most 2000.

        The `val_size` sources with the lowest SHA-256 are validation, the `test_size` next ones test, all others
        training, where each translation is a pair of its own. Raises `UserError`, which names the file as `place`,
        for a size below 1 and where no source is left to train on.
        """
        share = min(_LARGEST_DEFAULT, max(1, len(self) // _SHARE))
        sizes = {
            "val": share if val_size is None else val_size,
            "test": share if test_size is None else test_size,
        }
        for name, size in sizes.items():
            if size < 1:
                raise UserError(f"data.{name}_size={size}: it must be 1 or more")
        needed = sum(sizes.values()) + 1
        if len(self) < needed:
            pairs = sum(map(len, self._groups.values()))
            raise UserError(
                f"{place}: too small with {_counted(pairs, 'pair')} of {_counted(len(self), 'source sentence')}; "
                f"it needs at least {needed} source sentences: {sizes['val']} to validate (data.val_size), "
                f"{sizes['test']} to test (data.test_size) and 1 to train"
            )
        ranked = sorted(self._groups, key=_digest)
        val, test = set(ranked[: sizes["val"]]), set(ranked[sizes["val"] : needed - 1])
        held_out = val | test
        return {
            "train": tuple(
                SentencePair(_id(pair.source, pair.target), pair.source, pair.target, pair.alignment)
                for key, group in self._groups.items()
                if key not in held_out
                for pair in group.values()
            ),
            "val": self._with_references(val),
            "test": self._with_references(test),
        }

    def as_test_set(self) -> tuple[SentencePair, ...]:
        """Every source sentence once, as in the test set of `split`."""
        return self._with_references(self._groups)

    def _with_references(self, keys: Iterable[str]) -> tuple[SentencePair, ...]:
        """One pair for each source: the first translation is `target`, the others are `references`."""
        chosen = set(keys)
        return tuple(_merged(key, list(group.values())) for key, group in self._groups.items() if key in chosen)


def _merged(key: str, pairs: Sequence[TextPair]) -> SentencePair:
    first = pairs[0]
    others = dict.fromkeys(pair.target for pair in pairs if pair.target != first.target)
    return SentencePair(_id(key), first.source, first.target, first.alignment, references=tuple(others))


def source_key(source: str) -> str:
    """The same for all sources that a tokenizer which lowers case and applies NFKC could take for one another."""
    folded = unicodedata.normalize("NFKC", source).casefold()
    return " ".join(unicodedata.normalize("NFKC", folded).split())


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _id(*texts: str) -> str:
    """64 bits of a hash of the text, hex: no two of a hundred million pairs are likely to share them."""
    return _digest("\t".join(texts))[:16]


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
