"""The patterns of sentences and their translations, between words, with the labels to read them by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from attnframe.attention import undisturbed
from attnframe.data.batching import Batch, Example, collate
from attnframe.data.tokenizer import BOS, EOS, SPECIAL_TOKENS, Tokenizer, seen_words
from attnframe.model import SITES, Seq2Seq
from attnframe.patterns import Pattern, Patterns, record_patterns
from attnframe.patterns.words import word_patterns


@dataclass(frozen=True)
class SentencePatterns(Mapping[tuple[str, int], Pattern]):
    """Patterns by (site, layer); weights and contributions of each are [heads, query, key], rows and columns words.

    `missing` says by (site, layer) why a module has no pattern (`patterns.Patterns.missing`).

    `labels` holds by site the (query labels, key labels): what the encoder reads, what the decoder reads, and for the
    rows of `cross` what the decoder says there, as `patterns.words.word_patterns` groups its steps. It also says what
    contributions are where a word has several pieces.
    """

    source: str
    target: str
    labels: Mapping[str, tuple[list[str], list[str]]]
    patterns: Patterns

    def __getitem__(self, place: tuple[str, int]) -> Pattern:
        pattern = self.patterns[place]
        norms = pattern.contributions
        return Pattern(pattern.weights[0], pattern.kind, None if norms is None else norms[0])

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self.patterns)

    def __len__(self) -> int:
        return len(self.patterns)

    @property
    def missing(self) -> Mapping[tuple[str, int], str]:
        """Why there is no pattern of a module, by (site, layer)."""
        return self.patterns.missing


def sentence_patterns(model: Seq2Seq, src: Tokenizer, tgt: Tokenizer, source: str, target: str) -> SentencePatterns:
    """What every head of `model`, as it is now, attends to while it reads `source` and is told `target`."""
    return patterns_of_pairs(model, src, tgt, [(source, target)])[0]


@torch.no_grad()
def patterns_of_pairs(
    model: Seq2Seq, src: Tokenizer, tgt: Tokenizer, pairs: Sequence[tuple[str, str]]
) -> list[SentencePatterns]:
    """`sentence_patterns` of each (source, target), from one forward for all of them."""
    examples = [Example(i, src.encode(source), tgt.encode(target)) for i, (source, target) in enumerate(pairs)]
    batch = collate(examples).to(next(model.parameters()).device)
    padded = not bool(batch.src_keep.all())
    with undisturbed(model), record_patterns(model, sites=SITES, contributions=True) as recorded:
        model(batch.src, batch.src_keep if padded else None, batch.tgt_in)
    return [
        SentencePatterns(
            source,
            target,
            _labels(src, tgt, source, target),
            word_patterns(_row(recorded, batch, row), src.word_ids(source), tgt.word_ids(target)),
        )
        for row, (source, target) in enumerate(pairs)
    ]


def _row(recorded: Patterns, batch: Batch, row: int) -> Patterns:
    """The patterns of one sentence of the batch, without its padding."""
    source, target = int(batch.src_keep[row].sum()), int(batch.tgt_keep[row].sum())
    lengths = {"encoder_self": (source, source), "decoder_self": (target, target), "cross": (target, source)}
    of_row = Patterns()
    for (site, layer), pattern in recorded.items():
        queries, keys = lengths[site]
        part = slice(row, row + 1), slice(None), slice(queries), slice(keys)
        norms = pattern.contributions
        of_row.add((site, layer), Pattern(pattern.weights[part], pattern.kind, None if norms is None else norms[part]))
    for place, reason in recorded.missing.items():
        of_row.leave_out(place, reason)
    return of_row


def _labels(src: Tokenizer, tgt: Tokenizer, source: str, target: str) -> dict[str, tuple[list[str], list[str]]]:
    source_words = [*seen_words(src, source), SPECIAL_TOKENS[EOS]]
    target_words = seen_words(tgt, target)
    read_words = [SPECIAL_TOKENS[BOS], *target_words]
    return {
        "encoder_self": (source_words, source_words),
        "decoder_self": (read_words, read_words),
        "cross": ([*target_words, SPECIAL_TOKENS[EOS]], source_words),
    }
