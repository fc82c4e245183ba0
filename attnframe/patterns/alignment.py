"""How well attention aligns words: alignment error rate against gold links (Och & Ney 2003, section 4.3).

AER = 1 - (|A and S| + |A and P|) / (|A| + |S|), each count summed over all sentences first. S are the sure links, P the
possible ones (S among them), and A has one link for each target word: the source word with the most attention.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from attnframe.patterns.words import over_words

if TYPE_CHECKING:
    from attnframe.data.schema import Alignment, Link


class Reading(StrEnum):
    """Which decoder step speaks for a target word. The decoder reads BOS, w0, w1, ... and says w0, w1, ..., EOS."""

    PREDICTS = "predicts"
    """The step that predicts the word: row t for piece t."""
    NEXT_STEP = "next_step"
    """The step whose input is the word: row t + 1 for piece t."""


@dataclass(frozen=True, slots=True)
class HeadScore:
    """The alignment error rate of one head, or of the mean of a layer's heads where `head` is None. All from 0."""

    layer: int
    head: int | None
    reading: Reading
    aer: float


def word_weights(
    weights: Tensor, src_word_ids: Sequence[int], tgt_word_ids: Sequence[int], *, reading: Reading
) -> Tensor:
    """Attention between the words of one sentence: [heads, query, key] -> [heads, tgt_words, src_words].

    `src_word_ids` and `tgt_word_ids` give the word of each piece (`Tokenizer.word_ids`). Keys are the source pieces,
    then EOS and padding; queries are BOS, the target pieces, then padding. Any number of dimensions may stand in place
    of heads. A word's weight is the sum over its source pieces and the mean over its target pieces; what goes to EOS is
    dropped and the rest not scaled up. Raises ValueError where `weights` has too few rows or columns for the pieces.
    """
    src_pieces, tgt_pieces = len(src_word_ids), len(tgt_word_ids)
    queries, keys = weights.shape[-2:]
    if queries < tgt_pieces + 1 or keys < src_pieces:
        raise ValueError(
            f"weights of shape {tuple(weights.shape)} are too small for BOS and {tgt_pieces} target pieces "
            f"(queries) on {src_pieces} source pieces (keys)"
        )
    first = 0 if reading is Reading.PREDICTS else 1
    return over_words(weights[..., first : first + tgt_pieces, :src_pieces], tgt_word_ids, src_word_ids)


def argmax_links(weights: Tensor) -> list[list[Link]]:
    """For each head one link per target word, to the source word with the most weight (the first of equals).

    Takes what `word_weights` gives, [heads, tgt_words, src_words]. No source words, no links.
    """
    if weights.shape[-1] == 0:
        return [[] for _ in range(weights.shape[0])]
    return [[(source, target) for target, source in enumerate(row)] for row in weights.argmax(-1).tolist()]


def diagonal_links(num_src_words: int, num_tgt_words: int) -> list[Link]:
    """The diagonal from first to last word, scaled to both lengths: target j to source j (m - 1) / (n - 1), rounded.

    What an aligner scores that knows lengths only. Halves round to even; a lone target word goes to source word 0.
    """
    if num_src_words == 0:
        return []
    scale = max(num_tgt_words - 1, 1)
    return [(round(j * (num_src_words - 1) / scale), j) for j in range(num_tgt_words)]


def perfect_links(alignment: Alignment, num_tgt_words: int) -> list[Link]:
    """The best that one link per target word can do: a sure link where the word has one, else a possible, else any.

    This minimises the corpus AER: |A| and |S| do not depend on the choice, and a sure link counts 2 in the numerator
    (it is possible too), a possible one 1, any other 0, for each target word by itself.
    """
    links: list[Link] = []
    for target in range(num_tgt_words):
        sure = [source for source, word in alignment.sure if word == target]
        possible = [source for source, word in alignment.possible if word == target]
        links.append((min(sure or possible, default=0), target))
    return links


def alignment_error_rate(pairs: Iterable[tuple[Iterable[Link], Alignment]]) -> float:
    """AER of a corpus, from each sentence's links and gold alignment; 0 is best, 1 is worst.

    With no sure link anywhere it is the share of links that are not possible. With neither links nor sure links in
    any sentence it is 0, nothing was missed and nothing wrong. Raises ValueError where there are no sentences.
    """
    sentences = hits = size = 0
    for links, gold in pairs:
        found = set(links)
        sentences += 1
        hits += len(found & gold.sure) + len(found & gold.possible)
        size += len(found) + len(gold.sure)
    if sentences == 0:
        raise ValueError("the alignment error rate of no sentences is undefined")
    return _error_rate(hits, size)


def _error_rate(hits: int, size: int) -> float:
    return 1.0 - hits / size if size else 0.0


class AlignmentScore:
    """Counts up the AER of every head, and of the mean of each layer's heads, in both readings, sentence by sentence.

    A mean over heads is taken of the weights, before the argmax. Empty cases are those of `alignment_error_rate`.
    """

    def __init__(self, num_layers: int, num_heads: int) -> None:
        self.num_layers = num_layers
        self.num_heads = num_heads
        self._readings = tuple(Reading)
        # Hits of heads 0, 1, ... and, last, of the mean. Whole numbers, so that ties are ties.
        self._hits = torch.zeros(num_layers, num_heads + 1, len(self._readings), dtype=torch.long)
        self._size = 0
        self._sentences = 0

    def add(
        self, weights: Tensor, src_word_ids: Sequence[int], tgt_word_ids: Sequence[int], alignment: Alignment
    ) -> None:
        """Add one sentence with cross-attention `weights` [layers, heads, query, key], laid out as in `word_weights`.

        Raises ValueError for another number of layers or heads, for weights that are not finite, and for a gold link to
        a word that the sentence does not have.
        """
        if weights.shape[:-2] != (self.num_layers, self.num_heads):
            raise ValueError(
                f"weights of shape {tuple(weights.shape)} are not [{self.num_layers} layers, {self.num_heads} heads, "
                "query, key]"
            )
        gold = _gold_counts(alignment, src_word_ids, tgt_word_ids)
        num_tgt_words, num_src_words = gold.shape
        hits = torch.zeros_like(self._hits)
        if num_src_words > 0:
            weights = weights.detach().cpu()
            for index, reading in enumerate(self._readings):
                words = word_weights(weights, src_word_ids, tgt_word_ids, reading=reading)
                if not words.isfinite().all():
                    raise ValueError("attention weights hold NaN or infinity")
                chosen = torch.cat([words, words.mean(1, keepdim=True)], dim=1).argmax(-1)
                hits[..., index] = gold[torch.arange(num_tgt_words), chosen].sum(-1)
        # Last, so that a sentence that is refused leaves no half of itself behind.
        self._hits += hits
        self._size += len(alignment.sure) + (num_tgt_words if num_src_words > 0 else 0)
        self._sentences += 1

    def head_aer(self) -> Tensor:
        """AER of each head, Double[layers, heads, readings], readings in the order of `Reading`."""
        return self._rates()[:, :-1]

    def mean_heads_aer(self) -> Tensor:
        """AER of the mean of each layer's heads, Double[layers, readings]."""
        return self._rates()[:, -1]

    def best(self) -> HeadScore:
        """The head and reading with the lowest AER; among equals the lowest layer, then head, then `predicts`."""
        per_layer = self.num_heads * len(self._readings)
        place = int(self.head_aer().flatten().argmin())
        head, reading = divmod(place % per_layer, len(self._readings))
        return self._score(place // per_layer, head, self._readings[reading])

    def best_mean_heads(self) -> HeadScore:
        """The layer and reading whose mean of heads has the lowest AER; ties go as in `best`."""
        layer, reading = divmod(int(self.mean_heads_aer().flatten().argmin()), len(self._readings))
        return self._score(layer, None, self._readings[reading])

    def _score(self, layer: int, head: int | None, reading: Reading) -> HeadScore:
        hits = self._hits[layer, -1 if head is None else head, self._readings.index(reading)]
        return HeadScore(layer, head, reading, _error_rate(int(hits), self._size))

    def _rates(self) -> Tensor:
        if self._sentences == 0:
            raise ValueError("the alignment error rate of no sentences is undefined")
        return 1.0 - self._hits.double() / self._size if self._size else torch.zeros(self._hits.shape).double()


def _gold_counts(alignment: Alignment, src_word_ids: Sequence[int], tgt_word_ids: Sequence[int]) -> Tensor:
    """Long[tgt_words, src_words]: what a link adds to |A and S| + |A and P|: 2 if sure, 1 if only possible, else 0."""
    num_src_words = src_word_ids[-1] + 1 if src_word_ids else 0
    num_tgt_words = tgt_word_ids[-1] + 1 if tgt_word_ids else 0
    counts = [[0] * num_src_words for _ in range(num_tgt_words)]
    for source, target in alignment.possible:
        if not (0 <= source < num_src_words and 0 <= target < num_tgt_words):
            raise ValueError(
                f"gold link ({source}, {target}) lies outside a pair of {num_src_words} source and "
                f"{num_tgt_words} target words"
            )
        counts[target][source] = 2 if (source, target) in alignment.sure else 1
    return torch.tensor(counts, dtype=torch.long).reshape(num_tgt_words, num_src_words)
