"""How well each head of the cross-attention aligns words: by its weights, and by its norm-based contributions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from attnframe.attention import PatternKind
from attnframe.patterns.alignment import Reading, row_shares
from attnframe.patterns.link_counts import LinkCounter
from attnframe.patterns.pattern import Pattern

if TYPE_CHECKING:
    from attnframe.data.schema import Alignment

Place = tuple[int, int | None, Reading]
"""Layer and head, both from 0, and reading. Head None is the mean of the layer's heads."""


@dataclass(frozen=True, slots=True)
class LinkedSentence:
    """One sentence pair: the word of each source and each target piece, and the gold links."""

    src_word_ids: Sequence[int]
    tgt_word_ids: Sequence[int]
    alignment: Alignment
    tags: Iterable[str] = ()


@dataclass(frozen=True, slots=True)
class HeadScore:
    """The alignment error rate of one head, or of the mean of a layer's heads where `head` is None. All from 0."""

    layer: int
    head: int | None
    reading: Reading
    aer: float

    @property
    def place(self) -> Place:
        """Layer, head and reading."""
        return self.layer, self.head, self.reading


@dataclass(frozen=True, slots=True)
class HeadAlignment:
    """How one head aligns in one reading, a row of a flat table; `head` None is the mean of the layer's heads.

    Measures are those of `LinkCounts`, from 0 to 1: `aer`, `precision` and `recall` with one link for each target word,
    those that end in `_soft` with soft links. `aer_norms` and `aer_norms_soft` read the contributions ‖P_ij·V_j·W_O‖ in
    the place of the weights, each row as shares (Kobayashi et al. 2020, section 5, https://arxiv.org/abs/2004.10102),
    and where `head` is None those of all heads together; None where the layer has none. NaN where a model has diverged.
    """

    layer: int
    head: int | None
    reading: Reading
    aer: float
    precision: float
    recall: float
    aer_soft: float
    precision_soft: float
    recall_soft: float
    aer_norms: float | None
    aer_norms_soft: float | None

    @property
    def place(self) -> Place:
        """Layer, head and reading."""
        return self.layer, self.head, self.reading


class AlignmentScore:
    """Counts up how the cross-attention of a model aligns, batch by batch; layers may differ in their number of heads.

    Patterns other than probabilities, and contributions, are read as shares of their row. A mean over heads is taken of
    the weights as they are, before that and before the argmax; contributions of all heads are those of their sum. Only
    layers that every batch had a pattern of are scored, each by its number.
    """

    def __init__(self) -> None:
        self._weights = _Maps()
        self._norms = _Maps()

    def add(self, layers: Mapping[int, Pattern], sentences: Mapping[int, LinkedSentence]) -> None:
        """Add those rows of a batch that have gold links; `layers` (by number, from 0) are as for `word_weights`.

        Raises ValueError for a gold link to a word that the sentence does not have.
        """
        weights, norms = {}, {}
        for layer, pattern in layers.items():
            weights[layer] = _with_mean(pattern.weights)
            if pattern.kind is not PatternKind.PROBABILITY:
                weights[layer] = row_shares(weights[layer])
            if pattern.contributions is not None and pattern.joint_contributions is not None:
                together = pattern.joint_contributions[:, None]
                norms[layer] = row_shares(torch.cat([pattern.contributions, together], dim=1))
        self._weights.add(weights, sentences)
        self._norms.add(norms, sentences)

    @property
    def counted(self) -> bool:
        """Whether there is anything to tell: sentences, and a layer with a pattern of each."""
        return self._weights.counted

    @property
    def tags(self) -> list[str]:
        """The tags of the sentences so far, sorted."""
        return self._weights.tags

    def table(self, tag: str | None = None) -> list[HeadAlignment]:
        """A row for each layer, head (the mean last) and reading: of all sentences, or of those with `tag`."""
        norms = self._norms.measures(tag)
        rows = []
        for place, (single, soft) in self._weights.measures(tag).items():
            by_norms = [rates[0] for rates in norms[place]] if place in norms else [None, None]
            rows.append(HeadAlignment(*place, *single, *soft, *by_norms))
        return rows

    def by_sentence(self, place: Place) -> list[tuple[int, int, int]]:
        """|A ∩ S|, |A ∩ P| and |A| of every sentence, in their order, by the weights of `place`; as in `LinkCounts`.

        Empty where `place` has no pattern of each sentence.
        """
        return self._weights.by_sentence(place)

    def best(self) -> HeadScore:
        """The head and reading with the lowest AER; among equals the lowest layer, then head, then `predicts`.

        ValueError is raised here and below where nothing is `counted`.
        """
        return _lowest(HeadScore(*row.place, row.aer) for row in self.table() if row.head is not None)

    def best_mean_heads(self) -> HeadScore:
        """The layer and reading whose mean of heads has the lowest AER; ties go as in `best`."""
        return _lowest(HeadScore(*row.place, row.aer) for row in self.table() if row.head is None)

    def best_norms(self) -> HeadScore | None:
        """The head and reading whose contributions have the lowest AER; None where no layer has contributions."""
        if self.counted and not self._norms.counted:
            return None
        by_norms = [(row, row.aer_norms) for row in self.table() if row.head is not None]
        return _lowest(HeadScore(*row.place, aer) for row, aer in by_norms if aer is not None)


class _Maps:
    """The counts of one map for each head and each layer's mean of heads, of the layers that every batch has."""

    def __init__(self) -> None:
        self._counter: LinkCounter | None = None
        # How many maps the layers of the first batch have, and which of these layers every batch has had.
        self._sizes: dict[int, int] = {}
        self._lasting: set[int] = set()
        self._finite = True

    @property
    def counted(self) -> bool:
        return bool(self._lasting)

    @property
    def tags(self) -> list[str]:
        return self._counter.tags if self._counter and self.counted else []

    def add(
        self, layers: Mapping[int, Float[Tensor, "batch maps query key"]], sentences: Mapping[int, LinkedSentence]
    ) -> None:
        """Add a batch with the mean of heads behind the heads of each layer."""
        if self._counter is None:
            self._sizes = {layer: layers[layer].shape[1] for layer in sorted(layers)}
            self._lasting = set(layers)
            self._counter = LinkCounter(sum(self._sizes.values()))
        self._lasting = {
            layer for layer in self._lasting if layer in layers and layers[layer].shape[1] == self._sizes[layer]
        }
        if not self._lasting:
            return
        maps = torch.cat([self._filled(layers, layer) for layer in self._sizes], dim=1).cpu()
        # A model that has diverged chooses no word; its AER is NaN, as its loss is.
        self._finite &= bool(maps.isfinite().all())
        maps = maps.nan_to_num()
        for row, pair in sentences.items():
            self._counter.add(maps[row], pair.src_word_ids, pair.tgt_word_ids, pair.alignment, pair.tags)

    def _filled(self, layers: Mapping[int, Tensor], layer: int) -> Tensor:
        """The maps of a layer, zeros where it is one that does not last."""
        if layer in self._lasting:
            return layers[layer]
        like = layers[min(self._lasting)]
        return like.new_zeros(like.shape[0], self._sizes[layer], *like.shape[2:])

    def measures(self, tag: str | None) -> dict[Place, tuple[list[float], list[float]]]:
        """AER, precision and recall of each place, first with one link for each target word, then soft."""
        if self._counter is None or not self.counted:
            return {}
        both = []
        for soft in (False, True):
            counts = self._counter.counts(tag, soft=soft)
            rates = torch.stack([counts.error_rate(), counts.precision(), counts.recall()], dim=-1)
            both.append(rates.tolist() if self._finite else torch.full_like(rates, math.nan).tolist())
        return {
            place: (both[0][index][column], both[1][index][column]) for place, (index, column) in self._places().items()
        }

    def by_sentence(self, place: Place) -> list[tuple[int, int, int]]:
        if self._counter is None or not self._finite or place not in (places := self._places()):
            return []
        index, column = places[place]
        return [tuple(counts[:, index, column].tolist()) for counts in self._counter.by_sentence]

    def _places(self) -> dict[Place, tuple[int, int]]:
        """The map and the reading of each place, by their numbers."""
        heads = [(layer, head) for layer, size in self._sizes.items() for head in (*range(size - 1), None)]
        return {
            (layer, head, reading): (index, column)
            for index, (layer, head) in enumerate(heads)
            if layer in self._lasting
            for column, reading in enumerate(Reading)
        }


def _with_mean(heads: Float[Tensor, "batch heads query key"]) -> Float[Tensor, "batch maps query key"]:
    """Behind the heads a map that is their mean."""
    return torch.cat([heads, heads.mean(1, keepdim=True)], dim=1)


def _lowest(scores: Iterable[HeadScore]) -> HeadScore:
    """The first of the lowest, NaN last."""
    scores = list(scores)
    if not scores:
        raise ValueError("the alignment error rate of no sentences is undefined")
    return min(scores, key=lambda score: (math.isnan(score.aer), score.aer))
