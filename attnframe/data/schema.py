"""What every data source delivers: sentence pairs in named sets, with optional word alignments and tags."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

Link = tuple[int, int]
"""(source word, target word), both counted from 0 in the words of `words.split_words`."""


@dataclass(frozen=True, slots=True)
class Alignment:
    """Gold word alignment of one pair (Och & Ney 2003, section 4: sure and possible links).

    Every sure link is also possible, so `possible` always contains `sure`.
    """

    sure: frozenset[Link]
    possible: frozenset[Link] = frozenset()

    def __post_init__(self) -> None:
        object.__setattr__(self, "possible", self.possible | self.sure)


@dataclass(frozen=True, slots=True)
class SentencePair:
    """One source sentence with its translation.

    `id` is unique in the corpus and stable for given data settings; `tags` name the phenomena in the pair.
    `references` are further translations of the source, beside `target`.
    """

    id: str
    source: str
    target: str
    alignment: Alignment | None = None
    tags: tuple[str, ...] = ()
    references: tuple[str, ...] = ()


@dataclass(frozen=True)
class Corpus:
    """Sentence pairs by set. `train`, `val` and `test` always exist; further keys are further test sets.

    `languages` holds the names of (source, target) for labels, for example ("en", "fr").
    """

    sets: Mapping[str, tuple[SentencePair, ...]]
    languages: tuple[str, str] = ("en", "fr")
    name: str = "corpus"
    description: Mapping[str, object] = field(default_factory=dict)

    @property
    def test_sets(self) -> tuple[str, ...]:
        """Names of the sets to test on, `test` first."""
        return ("test", *(name for name in self.sets if name not in ("train", "val", "test")))

    @property
    def has_alignments(self) -> bool:
        """Whether every validation pair and every test pair carries a gold alignment."""
        return all(pair.alignment is not None for name in ("val", *self.test_sets) for pair in self.sets[name])

    def hash(self) -> str:
        """SHA-256 (hex) over every pair of every set: two runs are comparable when these are equal."""
        digest = hashlib.sha256()
        for part in _canonical(self.sets):
            digest.update(part.encode())
            digest.update(b"\0")
        return digest.hexdigest()


def _canonical(sets: Mapping[str, Iterable[SentencePair]]) -> Iterator[str]:
    for name, pairs in sets.items():
        yield f"#{name}"
        for pair in pairs:
            yield pair.id
            yield pair.source
            yield pair.target
            links = pair.alignment
            yield "" if links is None else f"{sorted(links.sure)}{sorted(links.possible)}"
            yield ",".join(pair.tags)
            # Only where there are some: a corpus with one translation a sentence has one hash, whoever reads it.
            if pair.references:
                yield f"references{list(pair.references)}"
