"""Patterns of sentences of a run: several at once are as each alone, and contributions are what the formula says."""

from __future__ import annotations

import pytest
import torch
from tiny_run import tiny_run
from torch import Tensor
from torch.testing import assert_close
from unsaid_runs import MEAN_POOL, unsaid_run

from attnframe import load_run
from attnframe.model import SITES
from attnframe.runs.loading import Run
from attnframe.runs.sentence_patterns import patterns_of_pairs, sentence_patterns

PAIRS = [
    ("the red house is not old.", "la maison rouge n'est pas vieille."),
    ("she sees a cat", "elle voit un chat"),
    ("the woman is tired.", "la femme est fatiguée."),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    path = tmp_path_factory.mktemp("patterns") / "run"
    tiny_run(path, "trainer.max_steps=7", "layers.cross=[self,low_rank_v]")
    return load_run(path)


def test_several_sentences_are_as_each_alone(run: Run) -> None:
    """In float64, where batches of other shapes round alike to 1e-12."""
    model = run.model.double()
    together = patterns_of_pairs(model, run.src_tokenizer, run.tgt_tokenizer, PAIRS)
    for (source, target), found in zip(PAIRS, together, strict=True):
        alone = sentence_patterns(model, run.src_tokenizer, run.tgt_tokenizer, source, target)
        assert (found.source, found.target) == (source, target)
        assert found.labels == alone.labels
        assert list(found) == list(alone)
        for place, pattern in found.items():
            assert pattern.kind is alone[place].kind
            assert_close(pattern.weights, alone[place].weights, rtol=0, atol=1e-12)
            assert pattern.contributions is not None
            assert_close(pattern.contributions, alone[place].contributions, rtol=0, atol=1e-12)
            queries, keys = found.labels[place[0]]
            assert pattern.contributions.shape == pattern.weights.shape
            assert pattern.weights.shape[1:] == (len(queries), len(keys))
    run.model.float()


def test_dropout_is_off_while_recording_and_the_mode_is_kept(run: Run) -> None:
    run.model.train()
    first, second = (patterns_of_pairs(run.model, run.src_tokenizer, run.tgt_tokenizer, PAIRS) for _ in range(2))
    assert run.model.training
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(one[place].weights, other[place].weights) for place in one)
    run.model.eval()


def test_contributions_are_the_norms_of_the_note(run: Run) -> None:
    """‖P_ij·(E_j·W_V + b_V)·W_O‖ of the first encoder layer, by hand from its parameters, in float64."""
    model = run.model.double()
    source, target = PAIRS[0]
    found = sentence_patterns(model, run.src_tokenizer, run.tgt_tokenizer, source, target)["encoder_self", 0]
    layer = model.encoder[0]
    attention = layer.self_attention
    seen: list[Tensor] = []
    handle = attention.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].detach()))
    sentence_patterns(model, run.src_tokenizer, run.tgt_tokenizer, source, target)
    handle.remove()
    embeddings = next(x for x in seen if x.shape[1] == len(run.src_tokenizer.encode(source)) + 1)[0]
    values = embeddings @ attention.value_proj.weight.T + attention.value_proj.bias
    output = attention.output_proj.weight.T
    assert found.contributions is not None
    for head in range(2):
        part = slice(16 * head, 16 * (head + 1))
        moved = values[:, part] @ output[part]
        for query in range(len(embeddings)):
            for key in range(len(embeddings)):
                expected = (found.weights[head, query, key] * moved[key]).norm()
                assert_close(found.contributions[head, query, key], expected, rtol=0, atol=1e-10)
    run.model.float()


def test_every_site_is_there(run: Run) -> None:
    patterns = run.patterns(PAIRS[1][0])
    assert {site for site, _ in patterns} == set(SITES)
    assert [patterns["cross", layer].weights.shape[0] for layer in range(2)] == [1, 2]


def test_what_has_no_pattern_says_why(tmp_path_factory: pytest.TempPathFactory) -> None:
    mixed = load_run(unsaid_run(tmp_path_factory, "first_cross_layer"))
    patterns = mixed.patterns(PAIRS[0][0], PAIRS[0][1])
    assert patterns.missing == {("cross", 0): MEAN_POOL}
    assert [place for place in patterns if place[0] == "cross"] == [("cross", 1)]
    assert set(patterns.labels) == set(SITES)
    with pytest.raises(KeyError, match="MeanPool calls attend 0 times"):
        patterns["cross", 0]
    everywhere = load_run(unsaid_run(tmp_path_factory, "everywhere")).patterns("she sees a cat")
    assert (len(everywhere), len(everywhere.missing)) == (0, 6)
