from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from tiny_run import tiny_data
from torch import Tensor, nn

from attnframe.attention import Attention, Mask
from attnframe.data.batching import collate
from attnframe.data.schema import Link, SentencePair
from attnframe.data.tokenizer import BOS, EOS, PAD
from attnframe.data.words import split_words
from attnframe.model import SITES, AttentionFactory, Seq2Seq, VariantChoice
from attnframe.patterns import Patterns, record_patterns
from attnframe.patterns.alignment import Reading
from attnframe.patterns.head_alignment import HeadScore, Place
from attnframe.training import evaluation as evaluation_module
from attnframe.training.data_module import TranslationData
from attnframe.training.evaluation import AlignmentChoice, Evaluation

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


Found = dict[Place, set[Link]]


@dataclass
class Slow:
    """The same, a sentence and a token at a time, in plain Python."""

    nll: float = 0.0
    tokens: int = 0
    correct: int = 0
    hypotheses: list[str] = field(default_factory=list)
    by_weights: list[Found] = field(default_factory=list)  # one a pair
    by_norms: list[Found] = field(default_factory=list)

    def aer(self, tag: str | None = None, *, norms: bool = False) -> dict[Place, float]:
        counts: dict[Place, tuple[int, int]] = {}
        for pair, found in zip(pairs(), self.by_norms if norms else self.by_weights, strict=True):
            assert pair.alignment is not None
            if tag is None or tag in pair.tags:
                for place, links in found.items():
                    hits, size = counts.get(place, (0, 0))
                    hits += len(links & pair.alignment.sure) + len(links & pair.alignment.possible)
                    counts[place] = hits, size + len(links) + len(pair.alignment.sure)
        return {place: 1 - hits / size for place, (hits, size) in counts.items()}


@torch.no_grad()
def slowly(the_model: Seq2Seq) -> Slow:
    slow = Slow()
    for pair in pairs():
        src = [*data().src_tokenizer.encode(pair.source), EOS]
        tgt = [BOS, *data().tgt_tokenizer.encode(pair.target), EOS]
        weights: list[Tensor] = []
        norms: list[Tensor] = []
        hooks = [
            layer.cross_attention.register_forward_hook(functools.partial(_weigh, weights, norms))  # type: ignore[union-attr, operator]
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
        slow.by_weights.append(_links(pair, weights))
        slow.by_norms.append(_links(pair, norms))
    return slow


def _weigh(
    weights: list[Tensor], norms: list[Tensor], module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
) -> None:
    """softmax(QKᵀ/√d_k) of each head and their mean; ‖P_ij·V_j·W_O‖ of each head and of all heads together."""
    query, key = inputs[:2]
    q, k = module.query_proj(query)[0], module.key_proj(key)[0]  # type: ignore[operator]
    heads = getattr(module, "num_heads", 1)
    parts = zip(q.chunk(heads, dim=-1), k.chunk(heads, dim=-1), strict=True)
    found = [(a @ b.T / math.sqrt(a.shape[-1])).softmax(-1) for a, b in parts]
    weights.append(torch.stack([*found, torch.stack(found).mean(0)]))
    values = module.value_proj(inputs[2])[0].chunk(heads, dim=-1)  # type: ignore[operator]
    outputs = module.output_proj.weight.T.chunk(heads)  # type: ignore[union-attr, operator]
    added = [p[:, :, None] * (v @ w) for p, v, w in zip(found, values, outputs, strict=True)]
    norms.append(torch.stack([vectors.norm(dim=-1) for vectors in [*added, torch.stack(added).sum(0)]]))


def _greedily(the_model: Seq2Seq, src: list[int]) -> str:
    ids: list[int] = []
    while len(ids) < 2 * len(src) + 10:
        row = the_model(torch.tensor([src]), None, torch.tensor([[BOS, *ids]]))[0, -1].tolist()
        best = max((value, -index) for index, value in enumerate(row) if index not in (BOS, PAD))
        ids.append(-best[1])
        if ids[-1] == EOS:
            break
    return data().tgt_tokenizer.decode(ids)


def _links(pair: SentencePair, layers: list[Tensor]) -> Found:
    source, target = split_words(pair.source), split_words(pair.target)
    found = {}
    for layer, maps in enumerate(layers):
        for head, one in [*enumerate(maps[:-1]), (None, maps[-1])]:
            for reading, first in READINGS.items():
                links = set()
                for j in range(len(target)):
                    row = one[first + j, : len(source)].tolist()
                    links.add((row.index(max(row)), j))
                found[layer, head, reading] = links
    return found


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
        scores = evaluation.scores(None)
        assert scores["loss"] == pytest.approx(slow.nll / slow.tokens, rel=1e-11)
        assert scores["token_accuracy"] == slow.correct / slow.tokens
        assert [made.hypothesis for made in evaluation.translations()] == slow.hypotheses
        assert [made.pair for made in evaluation.translations()] == list(pairs())
        table = evaluation.alignment_table()
        assert {row.place: row.aer for row in table} == pytest.approx(slow.aer(), abs=1e-12)
        assert {row.place: row.aer_norms for row in table} == pytest.approx(slow.aer(norms=True), abs=1e-12)


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
    assert evaluation.choose() is None
    scores = evaluation.scores(None)
    assert scores["token_accuracy"] == (tokens - spoilt) / tokens
    assert scores["loss"] == pytest.approx(50 * spoilt / tokens, rel=1e-12)
    assert "aer" not in scores


def test_the_choice_is_the_lowest_over_layers_with_different_numbers_of_heads() -> None:
    seen_layers, seen_apart = set(), set()
    for seed in range(4, 8):
        the_model = model(seed=seed)
        evaluation = evaluated(the_model, rows=9)
        slow = slowly(the_model)
        by_weights, by_norms = slow.aer(), slow.aer(norms=True)
        assert {place[:2] for place in by_weights} == {(0, 0), (0, None), (1, 0), (1, 1), (1, None)}
        choice = evaluation.choose()
        assert choice is not None
        heads, norms = (
            {place: aer for place, aer in found.items() if place[1] is not None} for found in (by_weights, by_norms)
        )
        means = {place: aer for place, aer in by_weights.items() if place[1] is None}
        assert choice.norms is not None
        for found, table in ((choice.head, heads), (choice.mean_heads, means), (choice.norms, norms)):
            assert found.aer == pytest.approx(min(table.values()), abs=1e-12)
            assert table[found.place] == pytest.approx(found.aer, abs=1e-12)
        seen_layers.add(choice.head.layer)
        seen_apart.add(choice.head.place != choice.norms.place)
        scores = evaluation.scores(choice)
        chosen = (choice.head.aer, choice.mean_heads.aer, choice.norms.aer)
        assert (scores["aer"], scores["aer_mean_heads"], scores["aer_norms"]) == chosen
    assert seen_layers == {0, 1}
    assert True in seen_apart, "no model here tells the head chosen by weights from the one chosen by contributions"


def test_a_choice_made_elsewhere_is_kept() -> None:
    the_model = model()
    evaluation = evaluated(the_model, rows=9)
    slow = slowly(the_model)
    best = evaluation.choose()
    assert best is not None
    assert best.norms is not None
    heads = [row for row in evaluation.alignment_table() if row.head is not None]
    worst = max(heads, key=lambda row: row.aer)
    worst_norms = max(heads, key=lambda row: row.aer_norms or 0.0)
    choice = AlignmentChoice(HeadScore(*worst.place, 0.0), best.mean_heads, HeadScore(*worst_norms.place, 0.0))
    scores = evaluation.scores(choice, split=True)
    assert scores["aer"] == pytest.approx(slow.aer()[worst.place], abs=1e-12)
    assert scores["aer_norms"] == pytest.approx(slow.aer(norms=True)[worst_norms.place], abs=1e-12)
    assert scores["aer"] > best.head.aer
    assert scores["aer_norms"] > best.norms.aer
    measures = (scores["alignment_precision"], scores["alignment_recall"], scores["aer_soft"])
    assert measures == (worst.precision, worst.recall, worst.aer_soft)
    tags = {tag for pair in pairs() for tag in pair.tags}
    assert {key.split("/")[1] for key in scores if key.startswith("phenomenon/")} == tags
    for tag in tags:
        expected = slow.aer(tag)[worst.place], slow.aer(tag, norms=True)[worst_norms.place]
        found = scores[f"phenomenon/{tag}/aer"], scores[f"phenomenon/{tag}/aer_norms"]
        assert found == pytest.approx(expected, abs=1e-12)
    # Results of a run that measured no contributions leave that choice open.
    scores = evaluation.scores(AlignmentChoice(best.head, best.mean_heads, None), split=True)
    assert not any(key.endswith("aer_norms") for key in scores)


@pytest.mark.parametrize("tag", [None, "negation", "plural"])
def test_what_a_diagonal_and_a_perfect_aligner_reach(tag: str | None) -> None:
    evaluation = evaluated(model(), rows=9)
    scores = evaluation.scores(evaluation.choose(), split=True)
    prefix = f"phenomenon/{tag}/" if tag else ""
    totals = {"diagonal": [0, 0], "perfect": [0, 0]}
    for pair in pairs():
        if tag is not None and tag not in pair.tags:
            continue
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
        assert scores[f"{prefix}aer_{name}"] == pytest.approx(1 - hits / size, abs=1e-12)
    table = evaluation.alignment_table()
    assert scores["aer_perfect"] < scores["aer_diagonal"]
    assert all(entry.aer >= scores["aer_perfect"] for entry in table)


def test_weights_that_are_not_finite_have_no_error_rate() -> None:
    the_model = model()
    the_model.decoder[1].cross_attention.query_proj.weight.data[0, 0] = math.nan  # type: ignore[union-attr, index]
    evaluation = evaluated(the_model, rows=9)
    scores = evaluation.scores(evaluation.choose())
    assert math.isnan(scores["loss"])
    assert math.isnan(scores["aer"])
    assert math.isnan(scores["aer_mean_heads"])
    assert math.isnan(scores["aer_norms"])
    assert scores["aer_perfect"] < scores["aer_diagonal"]


def test_scores_are_split_only_when_asked() -> None:
    evaluation = evaluated(model(), rows=9)
    choice = evaluation.choose()
    assert not any("/" in key for key in evaluation.scores(choice))
    split = evaluation.scores(choice, split=True)
    assert any(key.startswith("length/") for key in split)
    of_one = {key.split("/")[2] for key in split if key.startswith("phenomenon/plural/")}
    assert of_one == {"exact_match", "aer", "aer_norms", "aer_diagonal", "aer_perfect"}


class Unsaid(Attention):
    """Calls attend twice and does not say what its pattern is."""

    def __init__(self, inner: Attention) -> None:
        super().__init__()
        self.inner, self.site, self.layer = inner, inner.site, inner.layer
        inner.site = ""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        for _ in range(2):
            self.attend(query[:, None], key[:, None], value[:, None], mask)
        return self.inner(query, key, value, mask)


def unsaid_at(*layers: int) -> Seq2Seq:
    """The same model, its cross-attention in `layers` without patterns."""
    the_model = model()
    for layer in layers:
        inner = the_model.decoder[layer].cross_attention
        the_model.decoder[layer].cross_attention = Unsaid(inner)  # type: ignore[arg-type]
    return the_model.eval()


REASON = "Unsaid calls attend 2 times and reports no pattern: call self.report_pattern(...) in its forward"


def test_a_layer_without_patterns_leaves_the_others_as_they_are() -> None:
    whole, partial = evaluated(model(), rows=9), evaluated(unsaid_at(0), rows=9)
    assert partial.missing_patterns == {("cross", 0): REASON}
    assert whole.missing_patterns == {}
    assert partial.alignment_table() == [row for row in whole.alignment_table() if row.layer == 1]
    choice = partial.choose()
    assert choice is not None
    assert choice.head.layer == choice.mean_heads.layer == 1
    assert partial.scores(choice, split=True) == whole.scores(choice, split=True)


def test_without_any_pattern_there_is_no_choice_and_no_score_of_alignment() -> None:
    whole, without = evaluated(model(), rows=9), evaluated(unsaid_at(0, 1), rows=9)
    assert without.missing_patterns == {("cross", 0): REASON, ("cross", 1): REASON}
    assert without.choose() is None
    assert without.alignment_table() == []
    plain = whole.scores(None, split=True)
    # A choice made elsewhere, as where a variant has patterns of short sentences only.
    for choice in (None, whole.choose()):
        scores = without.scores(choice, split=True)
        assert scores == plain
        assert not any("aer" in key or "alignment" in key for key in scores)
        assert not any(math.isnan(value) for value in scores.values())


def test_a_chosen_head_without_a_pattern_costs_its_own_scores_only() -> None:
    whole, partial = evaluated(model(), rows=9), evaluated(unsaid_at(0), rows=9)
    rows = {row.place: row for row in whole.alignment_table()}
    heads = {layer: HeadScore(layer, 0, Reading.PREDICTS, 0.0) for layer in (0, 1)}
    means = HeadScore(1, None, Reading.NEXT_STEP, 0.0)
    scores = partial.scores(AlignmentChoice(heads[0], means, heads[1]))
    assert scores["aer_mean_heads"] == rows[means.place].aer
    assert scores["aer_norms"] == rows[heads[1].place].aer_norms
    assert not {"aer", "aer_soft", "alignment_precision", "alignment_recall"} & set(scores)


def test_nothing_is_recorded_where_no_pair_has_gold_links(monkeypatch: pytest.MonkeyPatch) -> None:
    the_model = model()
    half = len(pairs()) // 2
    linked = pairs()[half:]
    bare = [SentencePair(pair.id, pair.source, pair.target) for pair in pairs()[:half]]
    recorded = []

    @contextlib.contextmanager
    def recording(*args: Any, **options: Any) -> Iterator[Patterns]:
        with record_patterns(*args, **options) as patterns:
            recorded.append(patterns)
            yield patterns

    monkeypatch.setattr(evaluation_module, "record_patterns", recording)
    tables = []
    for some in ([*bare, *linked], linked):
        evaluation = Evaluation(the_model, some, data().src_tokenizer, data().tgt_tokenizer)
        examples = data().encode(some)
        for start in range(0, len(examples), half):
            evaluation.add(collate(examples[start : start + half]))
        tables.append(evaluation.alignment_table())
    assert tables[0] == tables[1] != []
    assert len(recorded) == 2 * math.ceil(len(linked) / half)
