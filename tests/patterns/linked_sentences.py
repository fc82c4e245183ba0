"""Random attention of sentence pairs with gold links, and what alignment measures make of it, in plain loops."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from attnframe.data.schema import Alignment, Link


@dataclass
class Sentence:
    """`weights` are [*maps, query, key] in float64."""

    weights: Tensor
    src_ids: list[int]
    tgt_ids: list[int]
    gold: Alignment
    tags: tuple[str, ...] = ()


def random_sentence(rng: random.Random, *maps: int) -> Sentence:
    """Words of one to three pieces, EOS and some padding behind them; rows that sum to 1."""
    src_words, tgt_words = rng.randint(1, 7), rng.randint(1, 5)
    src_ids = [word for word in range(src_words) for _ in range(rng.randint(1, 3))]
    tgt_ids = [word for word in range(tgt_words) for _ in range(rng.randint(1, 3))]
    shape = (*maps, len(tgt_ids) + 1 + rng.randint(0, 2), len(src_ids) + 1 + rng.randint(0, 2))
    scores = torch.tensor([rng.gauss(0, 2) for _ in range(torch.Size(shape).numel())], dtype=torch.float64)
    links = [(source, target) for source in range(src_words) for target in range(tgt_words)]
    sure, possible = (frozenset(link for link in links if rng.random() < 0.2) for _ in range(2))
    tags = tuple(tag for tag in ("past", "plural") if rng.random() < 0.5)
    return Sentence(scores.reshape(shape).softmax(-1), src_ids, tgt_ids, Alignment(sure, possible), tags)


class Measures(NamedTuple):
    """In the order of `HeadAlignment`."""

    aer: float
    precision: float
    recall: float
    aer_soft: float
    precision_soft: float
    recall_soft: float


def measured(sentences: list[tuple[list[list[float]], Sentence]], *, shift: int) -> Measures:
    """Of one map, given for each sentence as a [query][key] table, read `shift` rows down."""
    single: list[tuple[dict[Link, float], Alignment]] = []
    soft: list[tuple[dict[Link, float], Alignment]] = []
    for table, sentence in sentences:
        links = {}
        for target in sorted(set(sentence.tgt_ids)):
            rows = [piece + shift for piece, word in enumerate(sentence.tgt_ids) if word == target]
            for source in sorted(set(sentence.src_ids)):
                columns = [piece for piece, word in enumerate(sentence.src_ids) if word == source]
                links[source, target] = sum(table[row][column] for row in rows for column in columns) / len(rows)
        soft.append(({link: abs(weight) for link, weight in links.items()}, sentence.gold))
        most = {target: max(weight for (_, t), weight in links.items() if t == target) for _, target in links}
        chosen: dict[int, Link] = {}
        for link in sorted(links):
            if links[link] == most[link[1]]:
                chosen.setdefault(link[1], link)
        single.append((dict.fromkeys(chosen.values(), 1.0), sentence.gold))
    return Measures(*_rates(single), *_rates(soft))


def _rates(corpus: list[tuple[dict[Link, float], Alignment]]) -> tuple[float, float, float]:
    links = sum(sum(found.values()) for found, _ in corpus)
    in_sure = sum(weight for found, gold in corpus for link, weight in found.items() if link in gold.sure)
    in_possible = sum(weight for found, gold in corpus for link, weight in found.items() if link in gold.possible)
    sure = sum(len(gold.sure) for _, gold in corpus)
    return 1 - (in_sure + in_possible) / (links + sure), in_possible / links, in_sure / sure if sure else 1.0
