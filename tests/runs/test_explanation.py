"""What is explained of a sentence agrees with a model computed by hand."""

from __future__ import annotations

import copy
import dataclasses
import math

import numpy as np
import pytest
import torch
from by_hand import Attended, HandModel, entropy_rank, nearest_by_hand
from explained_runs import made_run, register_odd, with_attention
from torch import Tensor
from unsaid_runs import MEAN_POOL, unsaid_run

from attnframe import UserError, load_run
from attnframe.attention import PatternKind
from attnframe.data.tokenizer import BOS, EOS, SPECIAL_TOKENS, UNK
from attnframe.model import SITES
from attnframe.patterns import PatternError
from attnframe.runs.explained import Explanation
from attnframe.runs.explanation import MAX_TOKENS
from attnframe.runs.loading import Run

SENTENCE, TARGET = "the old woman is not happy.", "la vieille dame n'est pas heureuse."


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(made_run(tmp_path_factory, "multi_head"))


@pytest.fixture(scope="module")
def pieces(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return load_run(made_run(tmp_path_factory, "pieces"))


@pytest.fixture(scope="module", params=["multi_head", "low_rank_v", "pieces"])
def any_run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Each kind of run, its model in float64."""
    run = load_run(made_run(tmp_path_factory, request.param))
    run.model.double()
    return run


def ids(run: Run, source: str, target: str) -> tuple[list[int], list[int]]:
    return [*run.src_tokenizer.encode(source), EOS], [BOS, *run.tgt_tokenizer.encode(target)]


def by_hand(run: Run, source: str, target: str) -> dict[tuple[str, int], Attended]:
    return HandModel(run.model.state_dict(), num_heads=2)(*ids(run, source, target))


def close(found: Tensor | list[float], expected: np.ndarray) -> bool:
    # The model's table of positions is in float32, whatever the rest is in.
    return np.allclose(np.asarray(found), expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize("target", [None, TARGET])
def test_every_number_is_that_of_the_model_by_hand(any_run: Run, target: str | None) -> None:
    explanation = any_run.explain(SENTENCE, target)
    assert explanation.target == (any_run.translate(SENTENCE) if target is None else target)
    expected = by_hand(any_run, SENTENCE, explanation.target)
    assert list(explanation) == [(site, layer) for site in SITES for layer in range(2)]
    for place, part in explanation.items():
        hand = expected[place]
        assert close([row.norm for row in part.rows], np.linalg.norm(hand.before, axis=-1))
        assert close([row.delta_norm for row in part.rows], np.linalg.norm(hand.delta, axis=-1))
        after = hand.before + hand.delta
        cosines = (hand.before * after).sum(-1) / np.linalg.norm(hand.before, axis=-1) / np.linalg.norm(after, axis=-1)
        assert close([row.cosine for row in part.rows], cosines)
        assert len(part.heads) == len(part.weights) == 2
        for head, found in enumerate(part.heads):
            assert found.delta_norms is not None
            assert close(found.delta_norms, np.linalg.norm(hand.head_deltas[head], axis=-1))
            assert found.delta_rank == pytest.approx(entropy_rank(hand.head_deltas[head]), abs=1e-5)
            assert found.value_rank == pytest.approx(entropy_rank(hand.value_maps[head]), abs=1e-4)
            # Between pieces weights are merged to words; elsewhere they are the same.
            assert found.cell is not None
            query, key = found.cell.query, found.cell.key
            assert abs(hand.weights[head][query, key] - 0.5) == pytest.approx(
                np.abs(hand.weights[head] - 0.5).min(), abs=5e-6
            )
            assert found.cell.weight == pytest.approx(hand.weights[head][query, key], abs=5e-6)
            assert math.exp(found.cell.score) / found.cell.normaliser == pytest.approx(found.cell.weight)
            assert found.cell.product * part.calls[0].scale == pytest.approx(found.cell.score)
        if len(part.rows) == len(part.query_labels) and len(part.key_tokens) == len(part.key_labels):
            assert close(part.weights, hand.weights)
            assert part.contributions is not None
            assert close(part.contributions, hand.contributions)
        assert close(part.weights.sum(-1), np.ones(part.weights.shape[:2]))


def test_shapes_are_those_of_one_head(run: Run) -> None:
    explanation = run.explain(SENTENCE, TARGET)
    source, target = len(ids(run, SENTENCE, TARGET)[0]), len(ids(run, SENTENCE, TARGET)[1])
    sizes = {"encoder_self": (source, source), "decoder_self": (target, target), "cross": (target, source)}
    for (site, _), part in explanation.items():
        (call,) = part.calls
        queries, keys = sizes[site]
        assert (call.q, call.k, call.v) == ((2, queries, 16), (2, keys, 16), (2, keys, 16))
        assert call.scale == pytest.approx(0.25)
        assert (part.d_model, part.variant, part.backend, part.kind) == (32, "multi_head", "sdpa", "probability")
        assert part.formula.startswith("Concat_h(softmax(Q_h·K_hᵀ/√d_k)·V_h)·W_O")


def test_neighbours_are_those_of_brute_force(any_run: Run) -> None:
    explanation = any_run.explain(SENTENCE, TARGET, neighbours=5)
    expected = by_hand(any_run, SENTENCE, TARGET)
    for place, part in explanation.items():
        encoder = place[0] == "encoder_self"
        embedding = any_run.model.src_embedding if encoder else any_run.model.tgt_embedding
        tokenizer = any_run.src_tokenizer if encoder else any_run.tgt_tokenizer
        table = embedding.token.weight.tolist()
        for index, row in enumerate(part.rows):
            before, delta = expected[place].before[index], expected[place].delta[index]
            for found, around in ((row.neighbours_before, before), (row.neighbours_after, before + delta)):
                nearest = nearest_by_hand(around.tolist(), table, 5)
                assert [neighbour.id for neighbour in found] == [number for number, _ in nearest]
                assert [neighbour.cosine for neighbour in found] == pytest.approx(
                    [cosine for _, cosine in nearest], abs=5e-6
                )
                assert [neighbour.label for neighbour in found] == [tokenizer.label(number) for number, _ in nearest]
                assert not {neighbour.label for neighbour in found} & set(SPECIAL_TOKENS)


def test_tokens_say_what_is_read_and_what_is_said(run: Run) -> None:
    explanation = run.explain(SENTENCE, TARGET)
    source = ["the", "old", "woman", "is", "not", "happy", ".", "<eos>"]
    target = ["la", "vieille", "dame", "n'", "est", "pas", "heureuse", "."]
    for (site, _), part in explanation.items():
        assert [row.word for row in part.rows] == list(range(len(part.rows)))
        if site == "encoder_self":
            assert [(row.reads, row.says) for row in part.rows] == [(word, None) for word in source]
        else:
            assert [row.reads for row in part.rows] == ["<bos>", *target]
            assert [row.says for row in part.rows] == [*target, "<eos>"]
        assert list(part.key_tokens) == (["<bos>", *target] if site == "decoder_self" else source)
        assert list(part.key_labels) == list(part.key_tokens)
    assert list(explanation["cross", 0].query_labels) == [*target, "<eos>"]
    assert list(explanation["decoder_self", 0].query_labels) == ["<bos>", *target]


def test_patterns_are_between_words_and_embeddings_of_pieces(pieces: Run) -> None:
    explanation = pieces.explain(SENTENCE, TARGET)
    patterns = pieces.patterns(SENTENCE, TARGET)
    src, tgt = ids(pieces, SENTENCE, TARGET)
    assert len(src) > 9, "then words and pieces are the same here"
    for (site, layer), part in explanation.items():
        assert (list(part.query_labels), list(part.key_labels)) == patterns.labels[site]
        assert len(part.rows) == len(src if site == "encoder_self" else tgt)
        assert len(part.key_tokens) == len(tgt if site == "decoder_self" else src)
        # The pieces of a row's word, joined as subword-nmt joins them, are that word.
        said = [row.reads if row.says is None or site == "decoder_self" else row.says for row in part.rows]
        for word, label in enumerate(part.query_labels):
            own = [text for text, row in zip(said, part.rows, strict=True) if row.word == word]
            assert " ".join(own).replace("@@ ", "").replace("␣", "") == label
        assert torch.equal(part.weights, patterns[site, layer].weights)
        assert torch.equal(part.contributions, patterns[site, layer].contributions)


def test_backends_agree(run: Run) -> None:
    parts: list[Explanation] = []
    for backend in ("sdpa", "eager"):
        other = with_attention(run, "multi_head", backend)
        other.model.load_state_dict(run.model.state_dict())
        parts.append(other.explain(SENTENCE))
    for fused, plain in zip(parts[0].values(), parts[1].values(), strict=True):
        assert (fused.backend, plain.backend) == ("sdpa", "eager")
        torch.testing.assert_close(fused.weights, plain.weights, rtol=0, atol=1e-5)
        torch.testing.assert_close(fused.contributions, plain.contributions, rtol=0, atol=1e-4)
        for one, other_row in zip(fused.rows, plain.rows, strict=True):
            assert one.delta_norm == pytest.approx(other_row.delta_norm, abs=1e-4)
            assert [n.id for n in one.neighbours_after] == [n.id for n in other_row.neighbours_after]


def test_looking_changes_nothing(run: Run) -> None:
    before = run.translate(SENTENCE), copy.deepcopy(run.model.state_dict())
    run.model.train()
    run.explain(SENTENCE)
    assert run.model.training
    run.model.eval()
    assert run.translate(SENTENCE) == before[0]
    assert all(torch.equal(value, before[1][name]) for name, value in run.model.state_dict().items())


def test_a_variant_that_never_calls_attend_has_no_delta_by_head(run: Run) -> None:
    register_odd()
    part = with_attention(run, "own_way").explain(SENTENCE)["cross", 1]
    assert (part.kind, part.backend, part.calls, part.contributions) == (PatternKind.IMPLICIT, "own", (), None)
    assert part.no_heads_because == "own_way never calls attend, so that its heads cannot be told apart"
    assert [dataclasses.astuple(head) for head in part.heads] == [(None,) * 4] * 2
    assert all(row.delta_norm > 0 and len(row.neighbours_after) == 3 for row in part.rows)


def test_two_calls_make_one_delta(run: Run) -> None:
    register_odd()
    part = with_attention(run, "difference").explain(SENTENCE)["encoder_self", 0]
    assert (part.kind, len(part.calls), part.no_heads_because) == (PatternKind.SIGNED, 2, "")
    assert part.contributions is not None
    for head in part.heads:
        assert head.cell is None
        assert head.value_rank is None
        assert head.delta_norms is not None
    # Without an output projection the heads lie side by side in ΔE, so their norms add up as squares.
    norms = torch.stack([head.delta_norms for head in part.heads])
    assert close(norms.square().sum(0).sqrt(), np.array([row.delta_norm for row in part.rows], dtype=np.float32))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("squashed", "what squashed makes of its heads is no linear map that is the same for every query"),
        ("gated", "what gated makes of its heads is no linear map that is the same for every query"),
        ("paired", "what paired makes of its heads is no"),
    ],
)
def test_why_there_is_no_delta_by_head_is_said(run: Run, name: str, reason: str) -> None:
    register_odd()
    part = with_attention(run, name).explain(SENTENCE)["encoder_self", 0]
    assert part.no_heads_because.startswith(reason)
    assert part.contributions is None
    assert all(head.delta_norms is None and head.delta_rank is None for head in part.heads)
    assert [head.cell is None for head in part.heads] == [name == "paired"] * len(part.heads)


def test_a_variant_that_does_not_say_its_pattern_is_explained_without(run: Run) -> None:
    register_odd()
    explanation = with_attention(run, "silent").explain(SENTENCE)
    reason = "Silent calls attend 2 times and reports no pattern: call self.report_pattern(...) in its forward"
    assert list(explanation) == [(site, layer) for site in SITES for layer in range(2)]
    for part in explanation.values():
        assert (part.no_pattern_because, part.no_heads_because) == (reason, reason)
        assert (part.kind, part.weights, part.contributions, part.heads) == (None, None, None, ())
        assert len(part.calls) == 2
        assert all(row.delta_norm > 0 and len(row.neighbours_after) == 3 for row in part.rows)


def test_a_pattern_that_is_a_lie_is_refused(run: Run) -> None:
    register_odd()
    with pytest.raises(PatternError, match="Boasting reports a pattern with a row that sums to 2"):
        with_attention(run, "boasting").explain(SENTENCE)


def test_beside_a_layer_without_a_pattern_the_others_have_all(tmp_path_factory: pytest.TempPathFactory) -> None:
    explanation = load_run(unsaid_run(tmp_path_factory, "first_cross_layer")).explain(SENTENCE, TARGET)
    assert {place for place, part in explanation.items() if part.weights is None} == {("cross", 0)}
    assert explanation["cross", 0].no_pattern_because == MEAN_POOL
    assert explanation["cross", 0].calls == ()
    other = explanation["cross", 1]
    assert (other.no_pattern_because, other.no_heads_because, len(other.heads)) == ("", "", 2)
    assert other.contributions is not None


def test_a_model_that_has_diverged_is_explained_as_such(run: Run) -> None:
    other = with_attention(run, "multi_head")
    with torch.no_grad():
        for parameter in other.model.parameters():
            parameter.fill_(math.nan)
    explanation = other.explain(SENTENCE, TARGET)
    for part in explanation.values():
        assert part.weights[:, 1].isnan().any()
        assert all(math.isnan(row.norm) and math.isnan(row.cosine) for row in part.rows)
        assert all(row.neighbours_before == row.neighbours_after == () for row in part.rows)
        assert all(math.isnan(head.delta_rank) and math.isnan(head.cell.weight) for head in part.heads)


def test_unknown_words_are_named_and_shown_as_they_stand(run: Run) -> None:
    explanation = run.explain("the quokka is <eos> happy.", "la zzz.")
    assert UNK in run.src_tokenizer.encode("quokka")
    assert explanation.unknown_in_source == ("quokka", "<", "eos", ">")
    assert explanation.unknown_in_target == ("zzz",)
    assert [row.reads for row in explanation["encoder_self", 0].rows][:3] == ["the", "quokka", "is"]


@pytest.mark.parametrize("text", ["", " \t\n "])
def test_a_sentence_without_a_word_is_refused(run: Run, text: str) -> None:
    with pytest.raises(UserError, match=r"the sentence '.*' holds no word to explain"):
        run.explain(text)
    with pytest.raises(UserError, match=r"the target '.*' holds no word to explain"):
        run.explain(SENTENCE, text)


def test_a_sentence_that_is_too_long_is_refused(run: Run) -> None:
    with pytest.raises(UserError, match=r"the sentence has 251 tokens: explain takes 250"):
        run.explain("the " * (MAX_TOKENS + 1))
    with pytest.raises(UserError, match=r"the target has 1,000 tokens: explain takes 250"):
        run.explain(SENTENCE, "le " * 1000)
    with pytest.raises(UserError, match=r"the sentence has 5,001 characters: explain takes 5,000"):
        run.explain("w" * 5001)
    assert len(run.explain("the " * MAX_TOKENS, "le")["encoder_self", 0].rows) == 251
