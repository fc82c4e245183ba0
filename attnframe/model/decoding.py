"""Searching for the sentence that a trained model finds most probable."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attnframe.data.tokenizer import EOS
from attnframe.errors import UserError
from attnframe.model.incremental import IncrementalDecoder
from attnframe.model.seq2seq import Seq2Seq

LENGTH_PENALTY = 1.0
"""The α of `Hypothesis.score` where nobody says otherwise: nearly a ranking by the mean log-probability of a token."""


@dataclass(frozen=True)
class Hypothesis:
    """A translation that a search has finished.

    - `ids`: its tokens, without BOS and EOS
    - `log_probability`: nats, by the model; that of EOS is in it where EOS came, and not where the limit did
    - `score`: what hypotheses of one sentence are ranked by, the higher the better: log_probability / lp(Y) with
      lp(Y) = ((5 + |Y|) / 6)^α, where |Y| counts the tokens that are in the log-probability, so also EOS
      (Wu et al. 2016, section 7, https://arxiv.org/abs/1609.08144, without their coverage penalty)
    """

    ids: tuple[int, ...]
    log_probability: float
    score: float


@torch.no_grad()
def greedy(
    model: Seq2Seq,
    src: Int[Tensor, "batch source"],
    src_keep: Bool[Tensor, "batch source"] | None,
    *,
    max_lengths: Sequence[int],
    cache: bool = True,
) -> list[Hypothesis]:
    """The most probable next token, again and again until EOS: a hypothesis for each sentence.

    `max_lengths` holds each sentence's own limit in tokens, so that its translation does not depend on its batch.
    Keys and values are cached where the model can; `cache` False recomputes the prefix at each step. `score` is that
    of `LENGTH_PENALTY`.
    """
    finished = _Finished(len(src), LENGTH_PENALTY)
    live, limits = _sentences_with_room(src, max_lengths)
    decoder = IncrementalDecoder(model, src[live], None if src_keep is None else src_keep[live], cache=cache)
    total = torch.zeros(len(live), device=src.device)
    while len(live):
        best, token = decoder.log_probabilities().max(dim=1)
        total = total + best
        over = (token == EOS) | (limits[live] == decoder.prefix.shape[1])
        finished.add(live[over], decoder.prefix[over], token[over], total[over])
        on = (~over).nonzero()[:, 0]
        decoder.advance(on, token[on])
        live, total = live[on], total[on]
    return [hypothesis for (hypothesis,) in finished.best(1)]


@torch.no_grad()
def beam_search(
    model: Seq2Seq,
    src: Int[Tensor, "batch source"],
    src_keep: Bool[Tensor, "batch source"] | None,
    *,
    beam_size: int,
    max_lengths: Sequence[int],
    length_penalty: float = LENGTH_PENALTY,
    n_best: int = 1,
    cache: bool = True,
) -> list[list[Hypothesis]]:
    """For each sentence its `n_best` hypotheses, the one with the highest `score` first.

    At each step the best 2K continuations of a sentence's live beams are looked at, K being `beam_size`: those of the
    first K that say EOS are finished, and the first K that do not live on. A sentence ends when K are finished, or at
    its limit of `max_lengths` tokens, where what is alive counts as finished without EOS. `length_penalty` is the α of
    `Hypothesis.score`: 0 ranks by log-probability, more favours longer sentences. There are fewer than `n_best` where
    the limit leaves room for fewer. With one beam this is `greedy`; `max_lengths` and `cache` are as there. Raises
    `UserError` for numbers that make no search.
    """
    check_search(beam_size, n_best, length_penalty)
    finished = _Finished(len(src), length_penalty)
    live, limits = _sentences_with_room(src, max_lengths)
    decoder = IncrementalDecoder(model, src[live], None if src_keep is None else src_keep[live], cache=cache)
    # Log-probability of each live beam, [sentence, beam]; -inf where a sentence has fewer beams than columns.
    total = torch.zeros(len(live), 1, device=src.device)
    number = torch.zeros_like(live)  # of finished hypotheses
    while len(live):
        sentences, beams = total.shape
        log_p = decoder.log_probabilities().unflatten(0, (sentences, beams))
        vocab = log_p.shape[2]
        best, index = (total[:, :, None] + log_p).flatten(1).topk(min(2 * beam_size, beams * vocab), dim=1)
        row = torch.arange(sentences, device=src.device)[:, None] * beams + index // vocab
        token = index % vocab
        possible = best != -torch.inf
        ends = possible & (token == EOS)
        alive = possible & ~ends
        ends[:, beam_size:] = False

        number = number + ends.sum(dim=1)
        full = number >= beam_size
        at_limit = limits[live] == decoder.prefix.shape[1]
        # At the limit more than K may be alive; the others rank below these, and so below `n_best`.
        over = ends | (alive & (at_limit & ~full)[:, None])
        sentence = live[:, None].expand_as(row)
        finished.add(sentence[over], decoder.prefix[row[over]], token[over], best[over])

        # What is alive comes first, still in order; it may be fewer than the columns that are left.
        column = (~alive).long().argsort(dim=1, stable=True)[:, :beam_size]
        total = best.masked_fill(~alive, -torch.inf).gather(1, column)
        on = ~(full | at_limit)
        decoder.advance(row.gather(1, column)[on].flatten(), token.gather(1, column)[on].flatten())
        live, total, number = live[on], total[on], number[on]
    return finished.best(n_best)


class _Finished:
    """The hypotheses that a search has finished, by sentence."""

    def __init__(self, sentences: int, length_penalty: float) -> None:
        self._length_penalty = length_penalty
        self._hypotheses: list[list[Hypothesis]] = [[] for _ in range(sentences)]

    def add(
        self,
        sentences: Int[Tensor, " finished"],
        prefixes: Int[Tensor, "finished length"],
        tokens: Int[Tensor, " finished"],
        log_p: Float[Tensor, " finished"],
    ) -> None:
        """Each prefix, which begins with BOS, is finished by its last token, EOS or another one."""
        length = prefixes.shape[1]
        for sentence, ids, log_probability in zip(
            sentences.tolist(),
            torch.cat([prefixes[:, 1:], tokens[:, None]], dim=1).tolist(),
            log_p.tolist(),
            strict=True,
        ):
            said = tuple(ids[:-1] if ids[-1] == EOS else ids)
            score = log_probability / ((5 + length) / 6) ** self._length_penalty
            self._hypotheses[sentence].append(Hypothesis(said, log_probability, score))

    def best(self, number: int) -> list[list[Hypothesis]]:
        """Up to `number` hypotheses of each sentence, the highest score first."""
        # A sentence with a limit of 0 was never begun.
        nothing = [Hypothesis((), 0.0, 0.0)]
        return [
            sorted(hypotheses or nothing, key=lambda hypothesis: -hypothesis.score)[:number]
            for hypotheses in self._hypotheses
        ]


def _sentences_with_room(src: Tensor, max_lengths: Sequence[int]) -> tuple[Tensor, Tensor]:
    """(indices of the sentences that may say something, every sentence's limit)."""
    if len(max_lengths) != len(src):
        raise ValueError(f"max_lengths has {len(max_lengths)} limits for {len(src)} sentences")
    limits = torch.tensor(max_lengths, dtype=torch.long, device=src.device)
    return (limits > 0).nonzero()[:, 0], limits


def check_search(beam_size: int, n_best: int, length_penalty: float) -> None:
    """Raise `UserError` for numbers that make no search."""
    if beam_size < 1:
        raise UserError(f"beam_size={beam_size} must be at least 1")
    if not 1 <= n_best <= beam_size:
        raise UserError(f"n_best={n_best} must lie between 1 and beam_size={beam_size}")
    if not 0 <= length_penalty < math.inf:
        raise UserError(f"length_penalty={length_penalty} must be a finite number from 0 on")
