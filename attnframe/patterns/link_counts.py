"""Counting links against gold: what error rate, precision and recall need, for many attention maps at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from attnframe.patterns.alignment import Reading, word_weights

if TYPE_CHECKING:
    from attnframe.data.schema import Alignment


@dataclass(frozen=True, slots=True)
class LinkCounts:
    """The links A that each map gives in each reading (in the order of `Reading`), against the gold links S and P.

    Whole numbers where every target word has one link; sums of weights where links are soft, each as much of a link as
    its weight. Measures are Double[*maps, readings], from 0 to 1, after Och & Ney 2003, section 4.3,
    https://aclanthology.org/J03-1002. Where nothing was to be found nothing was missed, where no link is none is wrong.
    """

    in_sure: Shaped[Tensor, "*maps readings"]
    """|A ∩ S|."""
    in_possible: Shaped[Tensor, "*maps readings"]
    """|A ∩ P|; a sure link is possible too."""
    links: Shaped[Tensor, "*maps readings"]
    """|A|."""
    sure: int
    """|S|."""

    def error_rate(self) -> Float[Tensor, "*maps readings"]:
        """AER = 1 - (|A ∩ S| + |A ∩ P|) / (|A| + |S|); 0 is best."""
        return 1 - _ratio(self.in_sure + self.in_possible, self.links + self.sure)

    def precision(self) -> Float[Tensor, "*maps readings"]:
        """|A ∩ P| / |A|."""
        return _ratio(self.in_possible, self.links)

    def recall(self) -> Float[Tensor, "*maps readings"]:
        """|A ∩ S| / |S|."""
        return _ratio(self.in_sure, torch.full_like(self.links, self.sure))


class LinkCounter:
    """Counts up the links of attention maps of the shape `maps`, such as (layers, heads), sentence by sentence.

    Everything is counted twice, with one link for each target word, to the source word with the most weight, and soft,
    with a link for each pair of words, as much of a link as the target word's |weight| on the source word; what goes to
    EOS is no link, and the rest is not scaled up. And everything is counted for all sentences, and by tag.
    """

    def __init__(self, *maps: int) -> None:
        self._maps = maps
        # Of all sentences (None) and of those with a tag.
        self._sums: dict[str | None, _Sums] = defaultdict(lambda: _Sums(*maps))
        self._by_sentence: list[Tensor] = []

    @property
    def tags(self) -> list[str]:
        """The tags of the sentences so far, sorted."""
        return sorted(tag for tag in self._sums if tag is not None)

    def add(
        self,
        weights: Float[Tensor, "*maps query key"],
        src_word_ids: Sequence[int],
        tgt_word_ids: Sequence[int],
        alignment: Alignment,
        tags: Iterable[str] = (),
    ) -> None:
        """Add one sentence; queries and keys are laid out as in `word_weights`, and rows are shares (`row_shares`).

        Raises ValueError for maps of another shape, for weights that are not finite, and for a gold link to a word that
        the sentence does not have.
        """
        if weights.shape[:-2] != self._maps:
            maps = ", ".join(map(str, self._maps))
            raise ValueError(f"weights of shape {tuple(weights.shape)} are not [{maps}, query, key]")
        gold = _gold_matrices(alignment, src_word_ids, tgt_word_ids)
        num_tgt_words, num_src_words = gold.shape[1:]
        weights = weights.detach().cpu()
        words = torch.stack([word_weights(weights, src_word_ids, tgt_word_ids, reading=reading) for reading in Reading])
        if not words.isfinite().all():
            raise ValueError("attention weights hold NaN or infinity")
        words = words.movedim(0, -3)  # [*maps, readings, tgt_words, src_words]
        soft = torch.einsum("...ts,gts->g...", words.abs().double(), gold.double())
        single = torch.zeros(soft.shape, dtype=torch.long)
        if num_src_words > 0:
            single = gold[:, torch.arange(num_tgt_words), words.argmax(-1)].sum(-1)
        for tag in {None, *tags}:
            self._sums[tag].add(single, soft, len(alignment.sure))
        self._by_sentence.append(single.int())

    @property
    def by_sentence(self) -> Sequence[Shaped[Tensor, "3 *maps readings"]]:
        """|A ∩ S|, |A ∩ P| and |A| of every sentence, in the order of `add`, with one link for each target word."""
        return self._by_sentence

    def counts(self, tag: str | None = None, *, soft: bool = False) -> LinkCounts:
        """What was counted in all sentences, or in those with `tag`. Raises ValueError where there are none."""
        if tag not in self._sums:
            raise ValueError("the alignment error rate of no sentences is undefined")
        sums = self._sums[tag]
        in_sure, in_possible, links = sums.soft if soft else sums.single
        return LinkCounts(in_sure, in_possible, links, sums.sure)


class _Sums:
    """|A ∩ S|, |A ∩ P| and |A| of each map and reading, [3, *maps, readings], and |S|."""

    def __init__(self, *maps: int) -> None:
        shape = (3, *maps, len(Reading))
        # Whole numbers, so that ties are ties.
        self.single = torch.zeros(shape, dtype=torch.long)
        self.soft = torch.zeros(shape, dtype=torch.double)
        self.sure = 0

    def add(self, single: Tensor, soft: Tensor, sure: int) -> None:
        self.single += single
        self.soft += soft
        self.sure += sure


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    return (part.double() / whole).where(whole != 0, 1.0)


def _gold_matrices(alignment: Alignment, src_word_ids: Sequence[int], tgt_word_ids: Sequence[int]) -> Tensor:
    """Long[3, tgt_words, src_words], 1 at the sure links, at the possible ones, and everywhere."""
    num_src_words = src_word_ids[-1] + 1 if src_word_ids else 0
    num_tgt_words = tgt_word_ids[-1] + 1 if tgt_word_ids else 0
    for source, target in alignment.possible:
        if not (0 <= source < num_src_words and 0 <= target < num_tgt_words):
            raise ValueError(
                f"gold link ({source}, {target}) lies outside a pair of {num_src_words} source and "
                f"{num_tgt_words} target words"
            )
    cells = [(source, target) for target in range(num_tgt_words) for source in range(num_src_words)]
    rows = [[cell in links for cell in cells] for links in (alignment.sure, alignment.possible, set(cells))]
    return torch.tensor(rows, dtype=torch.long).reshape(3, num_tgt_words, num_src_words)
