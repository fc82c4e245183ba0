"""Beam search, against every sequence that there is and against the rule of the docstring written as loops."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from small_translator import LENGTHS, SRC_VOCAB, log_probability, make_model, next_log_probabilities, sources
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import UserError
from attnframe.data.tokenizer import BOS, EOS, PAD, UNK
from attnframe.model import Hypothesis, Seq2Seq, beam_search, greedy

LIMITS = [9, 4, 7, 1, 9, 0, 3]


def score(log_p: float, length: int, penalty: float) -> float:
    """Equation 14 of Wu et al. 2016, section 7, https://arxiv.org/abs/1609.08144, without coverage."""
    return log_p / ((5 + length) ** penalty / (5 + 1) ** penalty)


def assert_same(found: list[list[Hypothesis]], expected: list[list[Hypothesis]]) -> None:
    """The same hypotheses in the same order, up to rounding of their numbers."""
    assert [[h.ids for h in one] for one in found] == [[h.ids for h in one] for one in expected]
    for attribute in ("log_probability", "score"):
        numbers = [getattr(h, attribute) for one in found for h in one]
        assert numbers == pytest.approx([getattr(h, attribute) for one in expected for h in one], abs=1e-10)


@torch.no_grad()
def every_sequence(model: Seq2Seq, source: Tensor, vocab: int, limit: int) -> dict[tuple[int, ...], float]:
    """log p of all that can be said in `limit` tokens: shorter ones with EOS, and those that the limit cuts."""
    words = [index for index in range(vocab) if index not in (PAD, BOS, EOS)]
    said: dict[tuple[int, ...], float] = {}
    longest = list(itertools.product(words, repeat=limit))
    memory = model.encode(source[None], None).expand(len(longest), -1, -1)
    tgt_in = torch.tensor([[BOS, *sequence] for sequence in longest], device=source.device)
    steps = model.decode(tgt_in, memory, None).log_softmax(-1)
    for row, sequence in zip(steps.tolist(), longest, strict=True):
        so_far = 0.0
        for i, word in enumerate(sequence):
            said[sequence[:i]] = so_far + row[i][EOS]
            so_far += row[i][word]
        said[sequence] = so_far
    return said


@pytest.mark.parametrize(("variant", "seed"), [("multi_head", 7), ("uniform", 5)])
def test_a_beam_that_holds_every_prefix_finds_the_best_of_all_sequences(
    variant: str, seed: int, device: torch.device
) -> None:
    vocab, limit = 9, 5  # five words and UNK can be said
    model = make_model(variant, device=device, seed=seed, vocab=vocab)
    src, keep = sources(device, (4, 2))
    everything = [every_sequence(model, src[row, :n], vocab, limit) for row, n in enumerate((4, 2))]
    number = sum(6**length for length in range(limit + 1))
    assert {len(said) for said in everything} == {number}
    winners: list[set[tuple[int, ...]]] = [set(), set()]
    for penalty in (0.0, 1.0, 2.5):
        found = beam_search(
            model, src, keep, beam_size=number, n_best=number, max_lengths=[limit] * 2, length_penalty=penalty
        )
        for hypotheses, said, won in zip(found, everything, winners, strict=True):
            assert {h.ids for h in hypotheses} == said.keys()
            scores = {ids: score(log_p, min(len(ids) + 1, limit), penalty) for ids, log_p in said.items()}
            numbers = torch.tensor([(h.log_probability, h.score) for h in hypotheses], dtype=torch.float64)
            expected = torch.tensor([(said[h.ids], scores[h.ids]) for h in hypotheses], dtype=torch.float64)
            assert_close(numbers, expected, rtol=0, atol=1e-10)
            assert [h.score for h in hypotheses] == sorted((h.score for h in hypotheses), reverse=True)
            assert hypotheses[0].ids == max(scores, key=scores.__getitem__)
            won.add(hypotheses[0].ids)
    assert max(map(len, winners)) > 1, "the penalty decides nothing"


def slowly(model: Seq2Seq, source: Tensor, beam_size: int, limit: int, penalty: float) -> list[Hypothesis]:
    """The rule, one sentence and one beam after the other."""
    finished: list[Hypothesis] = []
    alive: list[tuple[float, list[int]]] = [(0.0, [])]
    for length in range(1, limit + 1):
        continuations = [
            (log_p + float(step), [*ids, token])
            for log_p, ids in alive
            for token, step in enumerate(next_log_probabilities(model, source, ids))
            if token not in (PAD, BOS)
        ]
        best = sorted(continuations, reverse=True)[: 2 * beam_size]
        for log_p, ids in best[:beam_size]:
            if ids[-1] == EOS:
                finished.append(Hypothesis(tuple(ids[:-1]), log_p, score(log_p, length, penalty)))
        alive = [(log_p, ids) for log_p, ids in best if ids[-1] != EOS][:beam_size]
        if len(finished) >= beam_size:
            break
        if length == limit:
            finished += [Hypothesis(tuple(ids), log_p, score(log_p, length, penalty)) for log_p, ids in alive]
    return sorted(finished or [Hypothesis((), 0.0, 0.0)], key=lambda h: h.score, reverse=True)


class Chain(nn.Module):
    """Random words, each with the probability that the one before it, the source and its position give it.

    A search asks no more of a model than this, and here sentences end early, late and in the same step.
    """

    def __init__(self, vocab: int, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.after = nn.Parameter(2 * torch.randn(vocab, vocab, dtype=torch.float64))
        self.of_source = nn.Parameter(torch.randn(SRC_VOCAB, vocab, dtype=torch.float64))
        self.at = nn.Parameter(torch.randn(max(LIMITS), vocab, dtype=torch.float64))

    def encode(self, src: Tensor, keep: Tensor | None) -> Tensor:
        return self.of_source[src[:, :1]]

    def new_cache(self) -> None:
        return None

    def decode(self, tgt_in: Tensor, memory: Tensor, keep: Tensor | None, cache: None = None) -> Tensor:
        return self.after[tgt_in] + memory + self.at[: tgt_in.shape[1]]

    def forward(self, src: Tensor, keep: Tensor | None, tgt_in: Tensor) -> Tensor:
        return self.decode(tgt_in, self.encode(src, keep), keep)


@pytest.mark.parametrize(("beam_size", "penalty"), [(1, 0.0), (2, 1.0), (3, 0.6), (5, 2.0)])
def test_the_rule_step_by_step(beam_size: int, penalty: float, device: torch.device) -> None:
    src, keep = sources(device)
    ways = set()
    for seed in range(10):
        model = Chain(vocab=11, seed=seed).to(device)
        found = beam_search(
            model, src, keep, beam_size=beam_size, n_best=beam_size, max_lengths=LIMITS, length_penalty=penalty
        )
        expected = [
            slowly(model, src[row, :n], beam_size, LIMITS[row], penalty)[:beam_size] for row, n in enumerate(LENGTHS)
        ]
        assert_same(found, expected)
        ways |= {(len(one[0].ids), limit) for one, limit in zip(found, LIMITS, strict=True)}
    assert len(ways) > 15, "their ends say nothing"


def test_one_beam_is_greedy(variant_name: str, device: torch.device) -> None:
    src, keep = sources(device)
    for seed in range(3):
        model = make_model(variant_name, device=device, seed=seed)
        found = beam_search(model, src, keep, beam_size=1, max_lengths=LIMITS)
        assert found == [[hypothesis] for hypothesis in greedy(model, src, keep, max_lengths=LIMITS)]


def test_a_batch_gives_what_each_sentence_gives_alone(variant_name: str, device: torch.device) -> None:
    src, keep = sources(device)
    for seed in range(2, 9):
        model = make_model(variant_name, device=device, seed=seed)
        together = beam_search(model, src, keep, beam_size=4, n_best=4, max_lengths=LIMITS)
        if len({len(one[0].ids) for one in together}) > 2:
            break
    else:
        pytest.fail("they leave the batch together")
    alone = [
        beam_search(model, src[row : row + 1, :n], None, beam_size=4, n_best=4, max_lengths=LIMITS[row : row + 1])[0]
        for row, n in enumerate(LENGTHS)
    ]
    assert_same(together, alone)


def test_n_best_is_the_beginning_of_a_longer_list(device: torch.device) -> None:
    src, keep = sources(device)
    model = make_model("multi_head", device=device)
    five = beam_search(model, src, keep, beam_size=5, n_best=5, max_lengths=LIMITS)
    for n_best in (1, 3):
        found = beam_search(model, src, keep, beam_size=5, n_best=n_best, max_lengths=LIMITS)
        assert found == [one[:n_best] for one in five]
    for one in five:
        assert len({h.ids for h in one}) == len(one)
        assert [h.score for h in one] == sorted((h.score for h in one), reverse=True)
    sizes = dict(zip(LIMITS, map(len, five), strict=True))
    assert sizes == {**dict.fromkeys(LIMITS, 5), 0: 1}
    (nothing,) = five[LIMITS.index(0)]
    assert nothing == Hypothesis((), 0.0, 0.0)


def test_a_longer_search_that_wins_is_more_probable(device: torch.device) -> None:
    """Ranked by log-probability alone, what a wide beam finds is what the model says it is, and on average better."""
    src, keep = sources(device)
    gains = []
    for seed in range(4):
        model = make_model("multi_head", device=device, seed=seed)
        wide = beam_search(model, src, keep, beam_size=6, max_lengths=[8] * 7, length_penalty=0.0)
        narrow = greedy(model, src, keep, max_lengths=[8] * 7)
        for row, ((best,), one) in enumerate(zip(wide, narrow, strict=True)):
            ended = len(best.ids) < 8
            expected = log_probability(model, src[row, : LENGTHS[row]], best.ids, ended=ended)
            assert best.log_probability == pytest.approx(expected, abs=1e-10)
            assert best.score == best.log_probability
            gains.append(best.log_probability - one.log_probability)
    assert sum(gains) > 1.0


def test_padding_and_bos_are_no_words_and_unknown_is_one(device: torch.device) -> None:
    src, keep = sources(device)
    model = make_model("multi_head", device=device)
    with torch.no_grad():  # a model that would say nothing else
        table = model.tgt_embedding.token.weight
        model.decoder_norm.weight.zero_()
        model.decoder_norm.bias.copy_(table[PAD] + table[BOS] + table[UNK])
        table[[PAD, BOS, UNK]] *= 100
    found = beam_search(model, src, keep, beam_size=4, n_best=4, max_lengths=[3] * 7)
    words = {word for one in found for h in one for word in h.ids}
    assert UNK in words
    assert not words & {PAD, BOS, EOS}
    assert all(math.isfinite(h.log_probability) for one in found for h in one)


def test_a_beam_wider_than_the_vocabulary(device: torch.device) -> None:
    src, keep = sources(device)
    model = make_model("multi_head", device=device, vocab=5)  # one word, UNK and EOS
    found = beam_search(model, src, keep, beam_size=50, n_best=50, max_lengths=[2] * 7)
    for one in found:
        assert {h.ids for h in one} == {(), (3,), (4,), (3, 3), (3, 4), (4, 3), (4, 4)}
        assert sum(math.exp(h.log_probability) for h in one) < 1


def test_a_model_that_has_diverged_still_gives_sentences(device: torch.device) -> None:
    src, keep = sources(device)
    model = make_model("multi_head", device=device)
    with torch.no_grad():
        model.decoder_norm.weight[0] = math.nan
    for (one,) in beam_search(model, src, keep, beam_size=3, max_lengths=LIMITS):
        assert one.ids == () or math.isnan(one.log_probability)


def test_no_sentences(device: torch.device) -> None:
    src, keep = sources(device)
    model = make_model("multi_head", device=device)
    assert beam_search(model, src[:0], keep[:0], beam_size=2, max_lengths=[]) == []
    assert beam_search(model, src, keep, beam_size=2, max_lengths=[0] * 7) == [[Hypothesis((), 0.0, 0.0)]] * 7


def test_no_gradient_is_kept_and_the_mode_stays(device: torch.device) -> None:
    src, keep = sources(device)
    model = make_model("multi_head", device=device)
    beam_search(model, src, keep, beam_size=2, max_lengths=LIMITS)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"beam_size": 0}, "beam_size=0 must be at least 1"),
        ({"beam_size": 3, "n_best": 4}, "n_best=4 must lie between 1 and beam_size=3"),
        ({"beam_size": 3, "n_best": 0}, "n_best=0 must lie between 1 and beam_size=3"),
        ({"beam_size": 3, "length_penalty": -0.5}, r"length_penalty=-0\.5 must be a finite number from 0 on"),
        ({"beam_size": 3, "length_penalty": math.nan}, "length_penalty=nan must be"),
        ({"beam_size": 3, "length_penalty": math.inf}, "length_penalty=inf must be"),
    ],
)
def test_what_makes_no_search_is_refused(arguments: dict[str, float], sentence: str, device: torch.device) -> None:
    src, keep = sources(device)
    model = make_model("multi_head", device=device)
    with pytest.raises(UserError, match=sentence):
        beam_search(model, src, keep, max_lengths=LIMITS, **arguments)  # type: ignore[arg-type]
