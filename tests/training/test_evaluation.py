from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import pytest
import torch
from tiny_run import tiny_data
from torch import Tensor, nn

from attnframe.data.batching import collate
from attnframe.data.schema import SentencePair
from attnframe.data.tokenizer import BOS, EOS, PAD
from attnframe.data.words import split_words
from attnframe.model import SITES, AttentionFactory, Seq2Seq, VariantChoice
from attnframe.patterns.alignment import Reading
from attnframe.training.data_module import TranslationData
from attnframe.training.evaluation import Evaluation

CROSS = ("self", "multi_head")  # one head in the first layer, two in the second
READINGS = {Reading.PREDICTS: 0, Reading.NEXT_STEP: 1}


@pytest.fixture(autouse=True)
def _apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.getbasetemp())
    for name in ("ATTNFRAME_LAUNCH", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")


@functools.cache
def data() -> TranslationData:
    return tiny_data()


def model(*, seed: int = 4) -> Seq2Seq:
    """Untrained, in float64, with weights large enough that its sentences differ."""
    torch.manual_seed(seed)
    choices = {site: tuple(map(VariantChoice, CROSS)) for site in SITES}
    made = Seq2Seq(
        src_vocab_size=len(data().src_tokenizer),
        tgt_vocab_size=len(data().tgt_tokenizer),
        attention=AttentionFactory(choices=choices, d_model=14, encoder_d_model=14, num_heads=2),
        num_encoder_layers=2,
        num_decoder_layers=2,
        d_ff=23,
        dropout=0.0,
    )
    for parameter in made.parameters():
        if parameter.ndim > 1:
            nn.init.normal_(parameter, std=0.5)
    # Some sentences should end early and some not at all.
    made.tgt_embedding.token.weight.data[EOS] *= 2.2
    return made.double().eval()


def train_a_little(the_model: Seq2Seq) -> None:
    """Until it gets some words of `pairs()` right."""
    batch = collate(data().encode(pairs()))
    optimizer = torch.optim.Adam(the_model.parameters(), lr=1e-2)
    for _ in range(25):
        logits = the_model(batch.src, batch.src_keep, batch.tgt_in)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits.flatten(0, 1), batch.tgt_out.flatten(), ignore_index=PAD).backward()
        optimizer.step()


def pairs() -> Sequence[SentencePair]:
    return data().corpus.sets["longer"] + data().corpus.sets["test"]


def evaluated(the_model: Seq2Seq, *, rows: int, order: Iterable[int] | None = None) -> Evaluation:
    """All `pairs()` in batches of `rows` sentences."""
    examples = data().encode(pairs())
    order = list(range(len(examples)) if order is None else order)
    evaluation = Evaluation(the_model, pairs(), data().src_tokenizer, data().tgt_tokenizer)
    for start in range(0, len(order), rows):
        evaluation.add(collate([examples[index] for index in order[start : start + rows]]))
    return evaluation


@dataclass
class Slow:
    """The same, a sentence and a token at a time, in plain Python."""

    nll: float = 0.0
    tokens: int = 0
    correct: int = 0
    hypotheses: list[str] = field(default_factory=list)
    # (layer, head or None, reading): [hits, size]
    counts: dict[tuple[int, int | None, Reading], list[int]] = field(default_factory=dict)

    def aer(self) -> dict[tuple[int, int | None, Reading], float]:
        return {place: 1 - hits / size for place, (hits, size) in self.counts.items()}


@torch.no_grad()
def slowly(the_model: Seq2Seq) -> Slow:
    slow = Slow()
    for pair in pairs():
        src = [*data().src_tokenizer.encode(pair.source), EOS]
        tgt = [BOS, *data().tgt_tokenizer.encode(pair.target), EOS]
        weights: list[Tensor] = []
        hooks = [
            layer.cross_attention.register_forward_hook(functools.partial(_weigh, weights))  # type: ignore[union-attr, operator]
            for layer in the_model.decoder
        ]
        logits = the_model(torch.tensor([src]), None, torch.tensor([tgt[:-1]]))[0]
        for hook in hooks:
            hook.remove()
        for row, wanted in zip(logits.tolist(), tgt[1:], strict=True):
            slow.nll += math.log(math.fsum(math.exp(value) for value in row)) - row[wanted]
            slow.correct += row.index(max(row)) == wanted
            slow.tokens += 1
        slow.hypotheses.append(_greedily(the_model, src))
        _count(slow, pair, weights)
    return slow


def _weigh(weights: list[Tensor], module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    """softmax(QKᵀ/√d_k) of each head from the module's inputs: [heads, query, key]."""
    query, key = inputs[:2]
    q, k = module.query_proj(query)[0], module.key_proj(key)[0]  # type: ignore[operator]
    heads = getattr(module, "num_heads", 1)
    parts = zip(q.chunk(heads, dim=-1), k.chunk(heads, dim=-1), strict=True)
    weights.append(torch.stack([(a @ b.T / math.sqrt(a.shape[-1])).softmax(-1) for a, b in parts]))


def _greedily(the_model: Seq2Seq, src: list[int]) -> str:
    ids: list[int] = []
    while len(ids) < 2 * len(src) + 10:
        row = the_model(torch.tensor([src]), None, torch.tensor([[BOS, *ids]]))[0, -1].tolist()
        best = max((value, -index) for index, value in enumerate(row) if index not in (BOS, PAD))
        ids.append(-best[1])
        if ids[-1] == EOS:
            break
    return data().tgt_tokenizer.decode(ids)


def _count(slow: Slow, pair: SentencePair, layers: list[Tensor]) -> None:
    assert pair.alignment is not None
    source, target = split_words(pair.source), split_words(pair.target)
    for layer, weights in enumerate(layers):
        for head, one in [*enumerate(weights), (None, weights.mean(0))]:
            for reading, first in READINGS.items():
                counts = slow.counts.setdefault((layer, head, reading), [0, 0])
                links = set()
                for j in range(len(target)):
                    row = one[first + j, : len(source)].tolist()
                    links.add((row.index(max(row)), j))
                counts[0] += len(links & pair.alignment.sure) + len(links & pair.alignment.possible)
                counts[1] += len(links) + len(pair.alignment.sure)


def test_a_padded_batch_counts_as_its_sentences_one_by_one() -> None:
    the_model = model()
    train_a_little(the_model)
    slow = slowly(the_model)
    examples = data().encode(pairs())
    batch = collate(examples[4:11])
    assert not batch.src_keep.all()
    assert not batch.tgt_keep.all()
    lengths = {len(hypothesis.split()) for hypothesis in slow.hypotheses}
    assert len(lengths) > 2, "the hypotheses say nothing"
    assert 0.1 < slow.correct / slow.tokens < 0.9, "the accuracy says nothing"

    for rows, order in ((1, None), (7, None), (5, reversed(range(len(examples)))), (len(examples), None)):
        evaluation = evaluated(the_model, rows=rows, order=order)
        scores = evaluation.scores()
        assert scores["loss"] == pytest.approx(slow.nll / slow.tokens, rel=1e-11)
        assert scores["token_accuracy"] == slow.correct / slow.tokens
        assert [made.hypothesis for made in evaluation.translations()] == slow.hypotheses
        assert [made.pair for made in evaluation.translations()] == list(pairs())
        table = {(entry.layer, entry.head, entry.reading): entry.aer for entry in evaluation.alignment_table()}
        assert table == pytest.approx(slow.aer(), abs=1e-12)


def test_a_model_that_knows_the_answer_is_accurate() -> None:
    """Token accuracy counts what is right: a model whose logits are the reference has it all but where spoilt."""
    the_model = model()
    pair_list = data().corpus.sets["test"]
    batch = collate(data().encode(pair_list))
    logits = torch.nn.functional.one_hot(batch.tgt_out, len(data().tgt_tokenizer)).double() * 50
    spoilt = 3
    logits[0, :spoilt] = logits[0, :spoilt].roll(1, dims=-1)
    the_model.forward = lambda *_: logits  # type: ignore[method-assign]
    evaluation = Evaluation(
        the_model,
        [SentencePair(pair.id, pair.source, pair.target) for pair in pair_list],  # no gold links: nothing to align
        data().src_tokenizer,
        data().tgt_tokenizer,
    )
    evaluation.add(batch)
    tokens = sum(len(split_words(pair.target)) + 1 for pair in pair_list)
    scores = evaluation.scores()
    assert scores["token_accuracy"] == (tokens - spoilt) / tokens
    assert scores["loss"] == pytest.approx(50 * spoilt / tokens, rel=1e-12)
    assert "aer" not in scores


def test_the_choice_is_the_lowest_over_layers_with_different_numbers_of_heads() -> None:
    seen_layers = set()
    for seed in range(4, 8):
        the_model = model(seed=seed)
        evaluation = evaluated(the_model, rows=9)
        slow = slowly(the_model).aer()
        assert {place[:2] for place in slow} == {(0, 0), (0, None), (1, 0), (1, 1), (1, None)}
        choice = evaluation.choose()
        heads = {place: aer for place, aer in slow.items() if place[1] is not None}
        means = {place: aer for place, aer in slow.items() if place[1] is None}
        for found, table in ((choice.head, heads), (choice.mean_heads, means)):
            assert found.aer == pytest.approx(min(table.values()), abs=1e-12)
            assert table[found.layer, found.head, found.reading] == pytest.approx(found.aer, abs=1e-12)
        seen_layers.add(choice.head.layer)
        scores = evaluation.scores()
        assert (scores["aer"], scores["aer_mean_heads"]) == (choice.head.aer, choice.mean_heads.aer)
    assert seen_layers == {0, 1}


def test_a_choice_made_elsewhere_is_kept() -> None:
    the_model = model()
    evaluation = evaluated(the_model, rows=9)
    slow = slowly(the_model).aer()
    best = evaluation.choose()
    worst = max(
        (entry for entry in evaluation.alignment_table() if entry.head is not None), key=lambda entry: entry.aer
    )
    scores = evaluation.scores(type(best)(worst, best.mean_heads))
    assert scores["aer"] == pytest.approx(slow[worst.layer, worst.head, worst.reading], abs=1e-12)
    assert scores["aer"] > best.head.aer


def test_what_a_diagonal_and_a_perfect_aligner_reach() -> None:
    scores = evaluated(model(), rows=9).scores()
    totals = {"diagonal": [0, 0], "perfect": [0, 0]}
    for pair in pairs():
        assert pair.alignment is not None
        sure, possible = pair.alignment.sure, pair.alignment.possible
        source, target = len(split_words(pair.source)), len(split_words(pair.target))
        for j in range(target):
            gains = [((i, j) in sure) + ((i, j) in possible) for i in range(source)]
            totals["perfect"][0] += max(gains)
            totals["diagonal"][0] += gains[round(j * (source - 1) / (target - 1))]
        for total in totals.values():
            total[1] += target + len(sure)
    for name, (hits, size) in totals.items():
        assert scores[f"aer_{name}"] == pytest.approx(1 - hits / size, abs=1e-12)
    table = evaluated(model(), rows=9).alignment_table()
    assert scores["aer_perfect"] < scores["aer_diagonal"]
    assert all(entry.aer >= scores["aer_perfect"] for entry in table)


def test_weights_that_are_not_finite_have_no_error_rate() -> None:
    the_model = model()
    the_model.decoder[1].cross_attention.query_proj.weight.data[0, 0] = math.nan  # type: ignore[union-attr, index]
    scores = evaluated(the_model, rows=9).scores()
    assert math.isnan(scores["loss"])
    assert math.isnan(scores["aer"])
    assert math.isnan(scores["aer_mean_heads"])
    assert scores["aer_perfect"] < scores["aer_diagonal"]


def test_scores_are_split_only_when_asked() -> None:
    evaluation = evaluated(model(), rows=9)
    assert not any("/" in key for key in evaluation.scores())
    split = evaluation.scores(split=True)
    assert any(key.startswith("length/") for key in split)
    assert any(key.startswith("phenomenon/") for key in split)
