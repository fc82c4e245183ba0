"""Greedy decoding."""

from __future__ import annotations

import pytest
import torch
from small_translator import log_probability
from torch import Tensor

from attnframe import registry
from attnframe.data.tokenizer import BOS, EOS, PAD
from attnframe.model import SITES, AttentionFactory, Seq2Seq, VariantChoice, greedy

VOCAB, LONGEST = 13, 11


def make_model(name: str, device: torch.device, seed: int) -> Seq2Seq:
    torch.manual_seed(seed)
    with torch.device(device):
        model = Seq2Seq(
            src_vocab_size=17,
            tgt_vocab_size=VOCAB,
            attention=AttentionFactory({site: [VariantChoice(name)] for site in SITES}, 10, 10, 2),
            num_encoder_layers=1,
            num_decoder_layers=1,
            d_ff=7,
            dropout=0.1,
        )
        # Random weights say the same word for ever; louder layers make sentences, and of different lengths.
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=0.7)
    return model.double().eval()


def sources(device: torch.device) -> tuple[Tensor, Tensor, list[int]]:
    torch.manual_seed(3)
    lengths = [7, 5, 3, 1, 6, 2, 4]
    src = torch.randint(4, 17, (7, 7), device=device)
    keep = torch.tensor([[j < n for j in range(7)] for n in lengths], device=device)
    return src.masked_fill(~keep, PAD), keep, lengths


def words_of(model: Seq2Seq, src: Tensor, keep: Tensor | None, limit: int) -> list[list[int]]:
    """What is said greedily of each sentence, in at most `limit` words."""
    return [list(hypothesis.ids) for hypothesis in greedy(model, src, keep, max_lengths=[limit] * len(src))]


SEEDS = range(2)


@pytest.fixture(params=SEEDS)
def model(request: pytest.FixtureRequest, variant_name: str, device: torch.device) -> Seq2Seq:
    return make_model(variant_name, device, request.param)


def test_each_word_is_the_argmax_of_a_teacher_forced_pass(model: Seq2Seq, device: torch.device) -> None:
    src, keep, lengths = sources(device)
    for row, words in enumerate(words_of(model, src, keep, LONGEST)):
        source = src[row : row + 1, : lengths[row]]
        logits = model(source, None, torch.tensor([[BOS, *words]], device=device))[0]
        logits[:, [BOS, PAD]] = -torch.inf
        expected = logits.argmax(-1).tolist()
        assert words == expected[: len(words)]
        assert EOS not in words
        if len(words) < LONGEST:
            assert expected[len(words)] == EOS


def test_a_batch_gives_what_each_sentence_gives_alone(model: Seq2Seq, device: torch.device) -> None:
    src, keep, lengths = sources(device)
    together = words_of(model, src, keep, LONGEST)
    alone = [words_of(model, src[i : i + 1, :n], None, LONGEST)[0] for i, n in enumerate(lengths)]
    assert together == alone


def test_the_models_of_these_tests_end_at_different_lengths(device: torch.device) -> None:
    """Else the tests above would not see what becomes of a batch in which some sentences have ended."""
    src, keep, _ = sources(device)
    lengths = set()
    mixed = 0
    for name in registry.variants():
        for seed in SEEDS:
            model = make_model(name, device, seed)
            found = {len(words) for words in words_of(model, src, keep, LONGEST)}
            lengths |= found
            mixed += len(found) > 1
    assert LONGEST in lengths
    assert len(lengths) > 3
    assert mixed > 3


def test_max_length_cuts(device: torch.device) -> None:
    src, keep, _ = sources(device)
    model = make_model("multi_head", device, seed=0)
    full = words_of(model, src, keep, LONGEST)
    for limit in (0, 1, 3):
        assert words_of(model, src, keep, limit) == [words[:limit] for words in full]


def test_each_sentence_has_its_own_limit(device: torch.device) -> None:
    src, keep, _ = sources(device)
    model = make_model("multi_head", device, seed=0)
    full = words_of(model, src, keep, LONGEST)
    limits = [3, 0, LONGEST, 1, 0, 5, 2]
    found = greedy(model, src, keep, max_lengths=limits)
    assert [list(hypothesis.ids) for hypothesis in found] == [
        words[:limit] for words, limit in zip(full, limits, strict=True)
    ]
    assert (found[1].log_probability, found[1].score) == (0.0, 0.0)
    with pytest.raises(ValueError, match="3 limits for 7 sentences"):
        greedy(model, src, keep, max_lengths=[1, 2, 3])


def test_log_probability_is_that_of_the_model(model: Seq2Seq, device: torch.device) -> None:
    src, keep, lengths = sources(device)
    for row, found in enumerate(greedy(model, src, keep, max_lengths=[LONGEST] * len(src))):
        ended = len(found.ids) < LONGEST
        expected = log_probability(model, src[row, : lengths[row]], found.ids, ended=ended)
        assert found.log_probability == pytest.approx(expected, abs=1e-10)
        assert found.score == pytest.approx(expected / ((5 + len(found.ids) + ended) / 6), abs=1e-10)


def test_no_sentences(device: torch.device) -> None:
    src, keep, _ = sources(device)
    model = make_model("multi_head", device, seed=0)
    assert words_of(model, src[:0], keep[:0], LONGEST) == []


def test_padding_and_bos_are_no_words(device: torch.device) -> None:
    src, keep, _ = sources(device)
    model = make_model("multi_head", device, seed=0)
    with torch.no_grad():  # a model that would say nothing else
        model.decoder_norm.weight.zero_()
        model.decoder_norm.bias.copy_(model.tgt_embedding.token.weight[PAD] + model.tgt_embedding.token.weight[BOS])
        model.tgt_embedding.token.weight[[PAD, BOS]] *= 100
    words = {word for sentence in words_of(model, src, keep, 3) for word in sentence}
    assert words
    assert not words & {PAD, BOS, EOS}


def test_no_gradient_is_kept_and_the_mode_stays(device: torch.device) -> None:
    src, keep, _ = sources(device)
    model = make_model("multi_head", device, seed=0)
    words_of(model, src, keep, 3)
    assert not model.training
    assert all(parameter.grad is None for parameter in model.parameters())
