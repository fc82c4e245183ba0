"""From attention to word alignment: links between words, and their error rate against gold links.

AER = 1 - (|A and S| + |A and P|) / (|A| + |S|), each count summed over all sentences first (Och & Ney 2003, section
4.3, https://aclanthology.org/J03-1002). S are the sure links, P the possible ones (S among them), and A has one link
for each target word: the source word with the most attention.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING

from jaxtyping import Float
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


def row_shares(weights: Float[Tensor, "*maps query key"]) -> Float[Tensor, "*maps query key"]:
    """Each row divided by the sum of its absolute values, signs kept: what has no scale of its own becomes shares.

    The rows of a probability pattern are shares as they are. A row without any weight stays zero.
    """
    total = weights.abs().sum(-1, keepdim=True)
    return (weights / total).where(total != 0, 0.0)


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
    return 1.0 - hits / size if size else 0.0
