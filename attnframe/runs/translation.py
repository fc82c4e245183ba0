"""Sentences in, translations out, in the order in which they came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from attnframe.attention import undisturbed
from attnframe.data.batching import Example, TokenBatchSampler, collate
from attnframe.data.tokenizer import Tokenizer, unknown_words
from attnframe.model import Seq2Seq
from attnframe.runs.decoding import Decoding

# Padded source tokens of a batch; as many target tokens are decoded beside them.
_MAX_TOKENS = 4096


@dataclass(frozen=True)
class Candidate:
    """One translation. `log_probability` is in nats; `score`, what candidates are ranked by, is length-normalised."""

    text: str
    score: float
    log_probability: float


@dataclass(frozen=True)
class TranslatedSentence:
    """A sentence, its translations (the best first), and its words that the tokenizer has never seen."""

    source: str
    candidates: tuple[Candidate, ...]
    unknown_words: tuple[str, ...]

    @property
    def best(self) -> str:
        """The best translation; of an empty sentence the empty one."""
        return self.candidates[0].text if self.candidates else ""


@torch.no_grad()
def translate(
    model: Seq2Seq, src: Tokenizer, tgt: Tokenizer, sentences: Sequence[str], decoding: Decoding, *, n_best: int = 1
) -> list[TranslatedSentence]:
    """Each sentence translated on the model's device, without dropout; order and count are kept.

    A sentence without a word has no candidates.
    """
    with undisturbed(model):
        return _translate(model, src, tgt, sentences, decoding, n_best)


def _translate(
    model: Seq2Seq, src: Tokenizer, tgt: Tokenizer, sentences: Sequence[str], decoding: Decoding, n_best: int
) -> list[TranslatedSentence]:
    device = next(model.parameters()).device
    encoded = [src.encode(sentence) for sentence in sentences]
    filled = [index for index, ids in enumerate(encoded) if ids]
    candidates: dict[int, tuple[Candidate, ...]] = {}
    longest = max((len(encoded[index]) for index in filled), default=0)
    # Short ones with short ones, each batch as large as the budget allows.
    sampler = TokenBatchSampler(
        [(len(encoded[index]), 0) for index in filled], max_tokens=max(_MAX_TOKENS, longest + 2), seed=0, shuffle=False
    )
    for rows in sampler:
        batch = collate([Example(filled[row], encoded[filled[row]], ()) for row in rows]).to(device)
        for index, found in zip(
            batch.indices.tolist(), decoding(model, batch.src, batch.src_keep, n_best=n_best), strict=True
        ):
            candidates[index] = tuple(
                Candidate(tgt.decode(hypothesis.ids), hypothesis.score, hypothesis.log_probability)
                for hypothesis in found
            )
    return [
        TranslatedSentence(sentence, candidates.get(index, ()), tuple(unknown_words(src, sentence)))
        for index, sentence in enumerate(sentences)
    ]
