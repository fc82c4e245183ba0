"""The pattern of each variant on one sentence: the same numbers for all, and a sentence where there is none."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from attnframe import discovery, registry
from attnframe.attention import Mask
from attnframe.catalogue import SENTENCE, Maps, maps_on_sentence
from attnframe.catalogue.sentence import D_MODEL, NUM_HEADS, built_for_sentence, sentence_embeddings
from attnframe.errors import UserError
from attnframe.patterns import record_patterns

WORDS = len(SENTENCE)
DISTANCE = np.abs(np.subtract.outer(np.arange(WORDS), np.arange(WORDS)))
BEFORE = np.tril(np.ones((WORDS, WORDS), dtype=bool))
EXAMPLES = Path(__file__).parents[2] / "plugins"


def weights(name: str, mask: str) -> NDArray[np.float64]:
    maps = maps_on_sentence(name)[mask]
    assert isinstance(maps, Maps), maps
    return maps.weights


def by_hand(mask: str) -> NDArray[np.float64]:
    """Multi-head attention in NumPy, from the matrices as the docstring says they are drawn."""
    x = sentence_embeddings()[0].double().numpy()
    q, k = (
        x @ np.random.default_rng(list(f"weight/{name}.weight".encode())).standard_normal((D_MODEL, D_MODEL)).T
        for name in ("query_proj", "key_proj")
    )
    heads = [np.split(part * math.sqrt(1.5 / D_MODEL), NUM_HEADS, axis=1) for part in (q, k)]
    scores = np.stack([q @ k.T / math.sqrt(D_MODEL / NUM_HEADS) for q, k in zip(*heads, strict=True)])
    shares = np.exp(scores) * (BEFORE if mask == "causal" else 1)
    return shares / shares.sum(-1, keepdims=True)


@pytest.mark.parametrize("mask", ["unmasked", "causal"])
def test_multi_head_attention_is_as_worked_out_by_hand(mask: str) -> None:
    assert_allclose(weights("multi_head", mask), by_hand(mask), atol=2e-6)


@pytest.mark.parametrize("mask", ["unmasked", "causal"])
def test_alibi_differs_from_multi_head_by_its_biases_alone(mask: str) -> None:
    if "alibi" not in registry.variants():
        discovery.load_plugin_file(EXAMPLES / "alibi.py")
    slopes = 2.0 ** (-8 * np.arange(1, NUM_HEADS + 1) / NUM_HEADS)
    biased = by_hand(mask) * np.exp(-slopes[:, None, None] * DISTANCE)
    assert_allclose(weights("alibi", mask), biased / biased.sum(-1, keepdims=True), atol=2e-6)


def test_equal_words_are_equal_to_what_knows_no_positions() -> None:
    the = [place for place, word in enumerate(SENTENCE) if word == "the"]
    assert len(the) > 2
    plain = weights("multi_head", "unmasked")
    for place in the[1:]:
        assert_allclose(plain[:, place], plain[:, the[0]], atol=1e-6)
        assert_allclose(plain[:, :, place], plain[:, :, the[0]], atol=1e-6)
    cat = SENTENCE.index("cat")
    assert np.abs(plain[:, cat] - plain[:, the[0]]).max() > 0.1


def test_the_maps_are_what_is_recorded(variant_name: str) -> None:
    module = built_for_sentence(variant_name)
    x = sentence_embeddings()
    for name, mask in (("unmasked", Mask()), ("causal", Mask(causal=True))):
        shown = maps_on_sentence(variant_name)[name]
        with torch.no_grad(), record_patterns(module.eval()) as patterns:
            if mask.causal and isinstance(shown, str):
                with pytest.raises(UserError) as refusal:
                    module(x, x, x, mask)
                assert str(refusal.value).startswith(shown)
                continue
            module(x, x, x, mask)
        assert isinstance(shown, Maps), shown
        (recorded,) = patterns.values()
        assert shown.kind == recorded.kind
        assert_allclose(shown.weights, recorded.weights[0].numpy(), atol=1e-6)


def test_chance_has_no_part_in_it_and_is_left_as_it_was(variant_name: str) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = weights(variant_name, "unmasked")
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(5)
    assert np.array_equal(weights(variant_name, "unmasked"), first)


PLUGIN = """
from torch import nn

from attnframe import Attention, UserError, register_attention, split_heads


@register_attention("{name}")
class Mine(Attention):
    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.key_proj = nn.Linear(d_model, d_model // 2)
        self.gain = nn.Parameter(0.25 * nn.init.ones_(self.key_proj.bias.detach()))

    def forward(self, query, key, value, mask):
        q, k, v = (split_heads(x, self.num_heads) for x in (query, key, value))
        {body}
"""


def plugin(folder: Path, name: str, body: str) -> str:
    (folder / f"{name}.py").write_text(PLUGIN.format(name=name, body=body))
    return name


def test_a_smaller_matrix_is_the_beginning_of_a_larger_one_and_gains_stay(plugin_folder: Path) -> None:
    module = built_for_sentence(plugin(plugin_folder, "mine", "return value"))
    whole = built_for_sentence("multi_head")
    assert torch.equal(module.key_proj.weight, whole.key_proj.weight[: D_MODEL // 2])
    assert torch.equal(module.gain, torch.full_like(module.gain, 0.25))


def test_what_cannot_be_shown_says_why_in_its_place(plugin_folder: Path) -> None:
    refuses = """if mask.causal:
            raise UserError('it is for encoders only')
        return query + 0 * self.attend(q, k, v, mask).sum()"""
    maps = maps_on_sentence(plugin(plugin_folder, "refuses", refuses))
    assert isinstance(maps["unmasked"], Maps)
    assert maps["causal"] == "it is for encoders only"
    fails = maps_on_sentence(plugin(plugin_folder, "fails", "raise KeyError('q')"))
    assert set(fails.values()) == {"KeyError: 'q'"}
    silent = maps_on_sentence(plugin(plugin_folder, "silent", "return value"))
    assert set(silent.values()) == {
        "Mine calls attend 0 times and reports no pattern: call self.report_pattern(...) in its forward"
    }
