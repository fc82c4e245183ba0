"""The patterns of one sentence and its translation, between words, with the labels to read them by."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch

from attnframe.data.batching import Example, collate
from attnframe.data.tokenizer import BOS, EOS, SPECIAL_TOKENS, Tokenizer, seen_words
from attnframe.model import Seq2Seq
from attnframe.patterns import Pattern, Patterns, record_patterns
from attnframe.patterns.words import word_patterns
from attnframe.runs.building import in_evaluation_mode


@dataclass(frozen=True)
class SentencePatterns(Mapping[tuple[str, int], Pattern]):
    """Patterns by (site, layer); the weights of each are [heads, query, key], rows and columns words.

    `labels` holds by site the (query labels, key labels): what the encoder reads, what the decoder reads, and for the
    rows of `cross` what the decoder says there, as `patterns.words.word_patterns` groups its steps.
    """

    source: str
    target: str
    labels: Mapping[str, tuple[list[str], list[str]]]
    patterns: Patterns

    def __getitem__(self, place: tuple[str, int]) -> Pattern:
        pattern = self.patterns[place]
        return Pattern(pattern.weights[0], pattern.kind)

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self.patterns)

    def __len__(self) -> int:
        return len(self.patterns)


@torch.no_grad()
def sentence_patterns(model: Seq2Seq, src: Tokenizer, tgt: Tokenizer, source: str, target: str) -> SentencePatterns:
    """What every head of `model`, as it is now, attends to while it reads `source` and is told `target`."""
    device = next(model.parameters()).device
    batch = collate([Example(0, src.encode(source), tgt.encode(target))]).to(device)
    with in_evaluation_mode(model), record_patterns(model) as recorded:
        model(batch.src, None, batch.tgt_in)
    source_words = [*seen_words(src, source), SPECIAL_TOKENS[EOS]]
    target_words = seen_words(tgt, target)
    read_words = [SPECIAL_TOKENS[BOS], *target_words]
    return SentencePatterns(
        source,
        target,
        {
            "encoder_self": (source_words, source_words),
            "decoder_self": (read_words, read_words),
            "cross": ([*target_words, SPECIAL_TOKENS[EOS]], source_words),
        },
        word_patterns(recorded, src.word_ids(source), tgt.word_ids(target)),
    )
