"""Evaluating a model on one set of pairs: loss, translations and alignment, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnframe.data.batching import Batch
from attnframe.data.schema import SentencePair
from attnframe.data.tokenizer import PAD, Tokenizer, unknown_words
from attnframe.data.words import split_words
from attnframe.model import Seq2Seq
from attnframe.patterns import record_patterns
from attnframe.patterns.alignment import (
    AlignmentScore,
    HeadScore,
    Reading,
    alignment_error_rate,
    diagonal_links,
    perfect_links,
)
from attnframe.runs.decoding import GREEDY, Decoding
from attnframe.training.optimization import token_losses
from attnframe.training.text_scores import Translation, split_scores, text_scores


@dataclass(frozen=True)
class AlignmentChoice:
    """Which head, and which mean of heads, speaks for the model: chosen on validation, then kept."""

    head: HeadScore
    mean_heads: HeadScore


class Evaluation:
    """Counts up one set. Feed it every batch once, then ask for `scores`."""

    def __init__(
        self,
        model: Seq2Seq,
        pairs: Sequence[SentencePair],
        src: Tokenizer,
        tgt: Tokenizer,
        decoding: Decoding = GREEDY,
    ) -> None:
        self._model = model
        self._decoding = decoding
        self._pairs = pairs
        self._src, self._tgt = src, tgt
        self._nll = 0.0
        self._tokens = 0
        self._correct = 0
        self._hypotheses: dict[int, str] = {}
        self._alignment: list[AlignmentScore] = []  # one a layer: layers may differ in their number of heads
        self._finite = True

    @torch.no_grad()
    def add(self, batch: Batch) -> None:
        """Evaluate one batch: teacher-forced with cross-attention recorded, then decoded."""
        with record_patterns(self._model, sites=("cross",)) as patterns:
            logits = self._model(batch.src, batch.src_keep, batch.tgt_in)
        _, nll = token_losses(logits, batch.tgt_out, label_smoothing=0.0)
        keep = batch.tgt_out != PAD
        tokens = int(keep.sum())
        self._nll += float(nll) * tokens
        self._tokens += tokens
        self._correct += int(((logits.argmax(dim=-1) == batch.tgt_out) & keep).sum())
        indices = batch.indices.tolist()
        self._add_alignments(indices, patterns.layers("cross"))
        found = self._decoding(self._model, batch.src, batch.src_keep)
        for index, hypotheses in zip(indices, found, strict=True):
            self._hypotheses[index] = self._tgt.decode(hypotheses[0].ids)

    def _add_alignments(self, indices: list[int], layers: list[Tensor]) -> None:
        # Weights of a model that has diverged choose no word; its AER is NaN, as its loss is.
        self._finite &= all(bool(weights.isfinite().all()) for weights in layers)
        layers = [weights.cpu().nan_to_num() for weights in layers]
        for row, index in enumerate(indices):
            pair = self._pairs[index]
            if pair.alignment is None:
                continue
            if not self._alignment:
                self._alignment = [AlignmentScore(1, weights.shape[1]) for weights in layers]
            src_words, tgt_words = self._src.word_ids(pair.source), self._tgt.word_ids(pair.target)
            for score, weights in zip(self._alignment, layers, strict=True):
                score.add(weights[None, row], src_words, tgt_words, pair.alignment)

    def translations(self) -> list[Translation]:
        """Every pair that was fed in, in the set's order."""
        return [
            Translation.judged(self._pairs[index], self._hypotheses[index], self._tgt)
            for index in sorted(self._hypotheses)
        ]

    def scores(self, choice: AlignmentChoice | None = None, *, split: bool = False) -> dict[str, float]:
        """`loss` (nats per target token, no smoothing), `token_accuracy`, text scores and, with gold links, the AERs.

        `choice` names the heads to read; without one those are read that are best on this very set. `split` adds
        exact match by length and by phenomenon, and how many words of the sources and of the (first) references have a
        piece outside the vocabulary.
        """
        translations = self.translations()
        scores = {
            "loss": self._nll / self._tokens,
            "token_accuracy": self._correct / self._tokens,
            **text_scores(translations, lowercase=self._tgt.lowercase),
        }
        if self._alignment:
            scores |= self._alignment_scores(choice or self.choose(), translations)
        if split:
            scores |= split_scores(translations)
            pairs = [translation.pair for translation in translations]
            scores["unknown_src_words"] = sum(len(unknown_words(self._src, pair.source)) for pair in pairs)
            scores["unknown_tgt_words"] = sum(len(unknown_words(self._tgt, pair.target)) for pair in pairs)
        return scores

    def choose(self) -> AlignmentChoice:
        """The head and the mean of heads with the lowest AER here."""
        heads = [(score.best().aer, layer, score.best()) for layer, score in enumerate(self._alignment)]
        means = [
            (score.best_mean_heads().aer, layer, score.best_mean_heads()) for layer, score in enumerate(self._alignment)
        ]
        _, head_layer, head = min(heads, key=lambda entry: entry[:2])
        _, mean_layer, mean = min(means, key=lambda entry: entry[:2])
        return AlignmentChoice(
            HeadScore(head_layer, head.head, head.reading, head.aer),
            HeadScore(mean_layer, None, mean.reading, mean.aer),
        )

    def alignment_table(self) -> list[HeadScore]:
        """The AER of every layer, head and reading, and of every layer's mean of heads."""
        table = []
        for layer, score in enumerate(self._alignment):
            rates = score.head_aer()[0]
            means = score.mean_heads_aer()[0]
            for column, reading in enumerate(Reading):
                table += [HeadScore(layer, head, reading, float(row[column])) for head, row in enumerate(rates)]
                table.append(HeadScore(layer, None, reading, float(means[column])))
        return table

    def _alignment_scores(self, choice: AlignmentChoice, translations: list[Translation]) -> dict[str, float]:
        table = {(entry.layer, entry.head, entry.reading): entry.aer for entry in self.alignment_table()}
        head, mean = choice.head, choice.mean_heads
        diagonal, perfect = [], []
        for pair in (translation.pair for translation in translations):
            if pair.alignment is not None:
                src_words, tgt_words = len(split_words(pair.source)), len(split_words(pair.target))
                diagonal.append((diagonal_links(src_words, tgt_words), pair.alignment))
                perfect.append((perfect_links(pair.alignment, tgt_words), pair.alignment))
        return {
            "aer": table[head.layer, head.head, head.reading] if self._finite else math.nan,
            "aer_mean_heads": table[mean.layer, None, mean.reading] if self._finite else math.nan,
            "aer_diagonal": alignment_error_rate(diagonal),
            "aer_perfect": alignment_error_rate(perfect),
        }
