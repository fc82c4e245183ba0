"""Evaluating a model on one set of pairs: loss, translations and alignment, batch by batch."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from attnframe.data.batching import Batch
from attnframe.data.schema import Alignment, Link, SentencePair
from attnframe.data.tokenizer import PAD, Tokenizer, unknown_words
from attnframe.data.words import split_words
from attnframe.model import Seq2Seq
from attnframe.patterns import Patterns, record_patterns
from attnframe.patterns.alignment import alignment_error_rate, diagonal_links, perfect_links
from attnframe.patterns.head_alignment import AlignmentScore, HeadAlignment, HeadScore, LinkedSentence
from attnframe.runs.decoding import GREEDY, Decoding
from attnframe.runs.sentence_statistics import SentenceStatistics, exact_counts, text_counts
from attnframe.training.optimization import sentence_losses, token_losses
from attnframe.training.text_scores import Translation, split_scores, text_scores


@dataclass(frozen=True)
class AlignmentChoice:
    """Which heads speak for the model: those that align best on validation, kept from then on.

    `head` and `mean_heads`, the mean of a layer's heads, by their weights; `norms` the head with the best norm-based
    contributions, None where there are none.
    """

    head: HeadScore
    mean_heads: HeadScore
    norms: HeadScore | None


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
        # Of each pair the nats and the target tokens, and the pairs whose links are counted, in their order.
        self._sentence_loss: dict[int, tuple[float, int]] = {}
        self._linked_pairs: list[int] = []
        self._hypotheses: dict[int, str] = {}
        self._alignment = AlignmentScore()
        self.missing_patterns: dict[tuple[str, int], str] = {}
        """Why the alignment of a (site, layer) is not known: `patterns.Patterns.missing`."""

    @torch.no_grad()
    def add(self, batch: Batch) -> None:
        """Evaluate one batch: teacher-forced with cross-attention recorded, then decoded."""
        indices = batch.indices.tolist()
        linked = self._linked(indices)
        # No limit on what is recorded: the size of a batch is a setting of the data.
        recording = record_patterns(self._model, sites=("cross",), contributions=True, max_bytes=None)
        with recording if linked else contextlib.nullcontext(Patterns()) as patterns:
            logits = self._model(batch.src, batch.src_keep, batch.tgt_in)
        if linked:
            self._alignment.add({layer: pattern for (_, layer), pattern in patterns.items()}, linked)
            self.missing_patterns |= patterns.missing
            self._linked_pairs += [indices[row] for row in linked]
        _, nll = token_losses(logits, batch.tgt_out, label_smoothing=0.0)
        keep = batch.tgt_out != PAD
        tokens = int(keep.sum())
        self._nll += float(nll) * tokens
        self._tokens += tokens
        self._correct += int(((logits.argmax(dim=-1) == batch.tgt_out) & keep).sum())
        losses = sentence_losses(logits, batch.tgt_out)
        self._sentence_loss |= dict(zip(indices, zip(losses.tolist(), keep.sum(1).tolist(), strict=True), strict=True))
        found = self._decoding(self._model, batch.src, batch.src_keep)
        for index, hypotheses in zip(indices, found, strict=True):
            self._hypotheses[index] = self._tgt.decode(hypotheses[0].ids)

    def _linked(self, indices: list[int]) -> dict[int, LinkedSentence]:
        """The pairs with gold links, by their row in the batch."""
        linked = {}
        for row, index in enumerate(indices):
            pair = self._pairs[index]
            if pair.alignment is not None:
                src_words, tgt_words = self._src.word_ids(pair.source), self._tgt.word_ids(pair.target)
                linked[row] = LinkedSentence(src_words, tgt_words, pair.alignment, pair.tags)
        return linked

    def translations(self) -> list[Translation]:
        """Every pair that was fed in, in the set's order."""
        return [
            Translation.judged(self._pairs[index], self._hypotheses[index], self._tgt)
            for index in sorted(self._hypotheses)
        ]

    def sentence_statistics(self, choice: AlignmentChoice | None) -> SentenceStatistics:
        """What every pair that was fed in adds to the scores, in the set's order; the AER is that of `choice.head`."""
        translations = self.translations()
        indices = sorted(self._hypotheses)
        counts = text_counts(
            [translation.hypothesis for translation in translations],
            [(translation.pair.target, *translation.pair.references) for translation in translations],
            lowercase=self._tgt.lowercase,
            measures=("bleu", "chrf"),
        )
        counts["exact_match"] = exact_counts([translation.exact for translation in translations])
        counts["loss"] = np.array([self._sentence_loss[index] for index in indices], dtype=np.float64).reshape(-1, 2)
        links = self._alignment.by_sentence(choice.head.place) if choice is not None else []
        if links:
            found = dict(zip(self._linked_pairs, links, strict=True))
            gold = {index: len(alignment.sure) for index in found if (alignment := self._pairs[index].alignment)}
            # A pair without gold links adds nothing.
            rows = [(*found[index], gold[index]) if index in found else (0, 0, 0, 0) for index in indices]
            counts["aer"] = np.array(rows, dtype=np.int32)
        return SentenceStatistics(tuple(translation.pair.id for translation in translations), counts)

    def scores(self, choice: AlignmentChoice | None, *, split: bool = False) -> dict[str, float]:
        """`loss` (nats per target token, no smoothing), `token_accuracy`, text scores and, with gold links, alignment.

        `choice` names the heads to read; `aer`, `alignment_precision`, `alignment_recall` and `aer_soft` are those of
        the head chosen by weights, `aer_norms` that of the contributions of the head chosen by them. Without one, and
        where a chosen head has no pattern here (`missing_patterns`), there are no such scores. `split` adds exact match
        by length and by phenomenon, AERs by phenomenon, and how many words of the sources and of the (first) references
        have a piece outside the vocabulary.
        """
        translations = self.translations()
        pairs = [translation.pair for translation in translations]
        scores = {
            "loss": self._nll / self._tokens,
            "token_accuracy": self._correct / self._tokens,
            **text_scores(translations, lowercase=self._tgt.lowercase),
        }
        by_class = split_scores(translations) if split else {}
        if choice is not None and (rates := self._alignment_scores(choice)):
            references = [_Reference.of(pair, pair.alignment) for pair in pairs if pair.alignment is not None]
            scores |= rates | _reference_rates(references)
            for tag in self._alignment.tags if split else []:
                rates = self._error_rates(choice, tag)
                rates |= _reference_rates(reference for reference in references if tag in reference.tags)
                by_class |= {f"phenomenon/{tag}/{name}": rate for name, rate in rates.items()}
        scores |= dict(sorted(by_class.items()))
        if split:
            scores["unknown_src_words"] = sum(len(unknown_words(self._src, pair.source)) for pair in pairs)
            scores["unknown_tgt_words"] = sum(len(unknown_words(self._tgt, pair.target)) for pair in pairs)
        return scores

    def choose(self) -> AlignmentChoice | None:
        """The heads and the mean of heads with the lowest AER here; None without gold links or without patterns."""
        score = self._alignment
        if not score.counted:
            return None
        return AlignmentChoice(score.best(), score.best_mean_heads(), score.best_norms())

    def alignment_table(self) -> list[HeadAlignment]:
        """How every layer, head and reading aligns, and every layer's mean of heads; empty without gold links."""
        return self._alignment.table()

    def _alignment_scores(self, choice: AlignmentChoice) -> dict[str, float]:
        """All measures of the chosen heads that have patterns, over all sentences."""
        rows = {row.place: row for row in self._alignment.table()}
        scores = self._error_rates(choice)
        if (mean := rows.get(choice.mean_heads.place)) is not None:
            scores["aer_mean_heads"] = mean.aer
        if (head := rows.get(choice.head.place)) is not None:
            scores["aer_soft"] = head.aer_soft
            scores["alignment_precision"], scores["alignment_recall"] = head.precision, head.recall
        return scores

    def _error_rates(self, choice: AlignmentChoice, tag: str | None = None) -> dict[str, float]:
        """AER of the chosen heads, by weights and by contributions: over all sentences, or over those with `tag`."""
        rows = {row.place: row for row in self._alignment.table(tag)}
        rates = {}
        if (head := rows.get(choice.head.place)) is not None:
            rates["aer"] = head.aer
        norms = rows.get(choice.norms.place) if choice.norms else None
        if norms is not None and norms.aer_norms is not None:
            rates["aer_norms"] = norms.aer_norms
        return rates


@dataclass(frozen=True, slots=True)
class _Reference:
    """What aligners without a model make of a pair: the diagonal, and the best that one link a target word can do."""

    gold: Alignment
    tags: tuple[str, ...]
    diagonal: list[Link]
    perfect: list[Link]

    @classmethod
    def of(cls, pair: SentencePair, gold: Alignment) -> _Reference:
        src_words, tgt_words = len(split_words(pair.source)), len(split_words(pair.target))
        return cls(gold, pair.tags, diagonal_links(src_words, tgt_words), perfect_links(gold, tgt_words))


def _reference_rates(references: Iterable[_Reference]) -> dict[str, float]:
    references = list(references)
    return {
        "aer_diagonal": alignment_error_rate((reference.diagonal, reference.gold) for reference in references),
        "aer_perfect": alignment_error_rate((reference.perfect, reference.gold) for reference in references),
    }
