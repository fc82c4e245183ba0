"""The parts of a model's attention, and the model without one: what its layers then add to the embeddings."""

from __future__ import annotations

import copy

import pytest
import torch
from small_translator import HEADS, make_model, sources
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import Attention, Mask, build_attention, merge_heads, register_attention, split_heads
from attnframe.attention import intervene, uniform_heads, zero_heads
from attnframe.data.tokenizer import BOS
from attnframe.model import SITES, Seq2Seq, beam_search, greedy
from attnframe.model.parts import Part, Place, find_places, parts_of, without

VARIANTS = {
    "encoder_self": ("multi_head", "low_rank_v", "multi_head"),
    "decoder_self": ("self", "multi_head"),
    "cross": ("cross", "self"),
}
EXACT = {"rtol": 0.0, "atol": 1e-12}


@pytest.fixture
def silent_variants() -> None:
    """Variants whose heads cannot be told apart."""

    @register_attention("average")
    class Average(Attention):
        """The mean of all values, by hand."""

        cacheable = False

        def __init__(self, d_model: int) -> None:
            super().__init__()
            self.value_proj = nn.Linear(d_model, d_model)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            weights = mask.dense().squeeze(1).to(value.dtype)
            self.report_pattern(lambda: weights[:, None] / weights.sum(-1)[:, None, :, None], "probability")
            return weights @ self.value_proj(value) / weights.sum(-1, keepdim=True)

    @register_attention("two_widths")
    class TwoWidths(Attention):
        """One call with a head and one with two."""

        def __init__(self, d_model: int) -> None:
            super().__init__()
            self.proj = nn.Linear(d_model, d_model)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            calls = []
            for heads in (1, 2):
                q, k, v = (split_heads(self.proj(x), heads) for x in (query, key, value))
                calls.append(merge_heads(self.attend(q, k, v, mask)))
            self.report_pattern(lambda one, two: one, "implicit")
            return self.proj(sum(calls))


@pytest.fixture
def model() -> Seq2Seq:
    return make_model(VARIANTS)


def logits(model: Seq2Seq) -> Tensor:
    src, keep = sources(torch.device("cpu"))
    torch.manual_seed(4)
    tgt = torch.cat([torch.full((len(src), 1), BOS), torch.randint(4, 13, (len(src), 5))], dim=1)
    with torch.no_grad():
        return model(src, keep, tgt)


def places_of(model: Seq2Seq) -> dict[tuple[str, int], Place]:
    src, keep = sources(torch.device("cpu"))
    return find_places(model, src[:1], keep[:1], torch.tensor([[BOS, 5, 6]]))


def test_every_place_and_its_heads_are_found(model: Seq2Seq) -> None:
    places = places_of(model)
    assert list(places) == [(site, layer) for site in SITES for layer in range(len(VARIANTS[site]))]
    assert [place.heads for place in places.values()] == [HEADS, HEADS, HEADS, 1, HEADS, HEADS, 1]
    assert all(place.attends for place in places.values())
    assert places["cross", 1].module is model.decoder[1].cross_attention
    for mode in ("zero", "uniform"):
        parts = parts_of(places, mode)
        assert [part.what for part in parts] == ["site"] * 3 + ["layer"] * 7 + ["head"] * 12
        assert len(set(parts)) == len(parts)
        assert parts[:4] == [*map(Part, SITES), Part("encoder_self", 0)]
        assert parts[-3:] == [Part("cross", 0, 0), Part("cross", 0, 1), Part("cross", 1, 0)]


@pytest.mark.parametrize("mode", ["zero", "uniform"])
def test_a_part_is_its_heads_and_no_others(model: Seq2Seq, mode: str) -> None:
    make = {"zero": zero_heads, "uniform": uniform_heads}[mode]
    places = places_of(model)
    untouched = logits(model)
    outputs = []
    for part in parts_of(places, mode):
        with without(places, part, mode):
            found = logits(model)
        heads = None if part.head is None else [part.head]
        layers = range(len(VARIANTS[part.site])) if part.layer is None else [part.layer]
        with intervene(model, {(part.site, layer): make(heads) for layer in layers}):
            assert torch.equal(found, logits(model))
        # Nothing is left of it, and it has made a difference of its own.
        assert torch.equal(logits(model), untouched)
        assert (found - untouched).abs().max() > 1e-3, part
        outputs.append((part, found))
    for part, found in outputs:
        same = [other for other, output in outputs if torch.equal(output, found) and other != part]
        # A layer with one head is that head.
        lone = part.layer is not None and VARIANTS[part.site][part.layer] == "self"
        assert len(same) == (1 if lone else 0), (part, same)


@pytest.mark.parametrize("site", SITES)
def test_without_a_site_its_layers_add_their_bias(model: Seq2Seq, site: str) -> None:
    other = copy.deepcopy(model)
    for module in other.modules():
        if isinstance(module, Attention) and module.site == site:
            bias = (module.value_up if hasattr(module, "value_up") else module.output_proj).bias
            module.register_forward_hook(lambda module, inputs, output, bias=bias: bias.expand_as(output))
    with without(places_of(model), Part(site), "zero"):
        assert_close(logits(model), logits(other), **EXACT)


def test_a_module_that_never_attends_is_silent_as_a_whole(silent_variants: None) -> None:
    model = make_model({**VARIANTS, "cross": ("average", "multi_head")})
    places = places_of(model)
    assert (places["cross", 0].attends, places["cross", 0].heads) == (False, 0)
    zeroed, uniform = parts_of(places, "zero"), parts_of(places, "uniform")
    assert set(zeroed) - set(uniform) == {Part("cross"), Part("cross", 0)}
    assert set(uniform) < set(zeroed)
    assert Part("cross", 0, 0) not in zeroed
    untouched = logits(model)
    with without(places, Part("cross", 0), "zero"):
        found = logits(model)
    assert torch.equal(logits(model), untouched)
    with torch.no_grad():
        for parameter in places["cross", 0].module.parameters():
            parameter.zero_()
    assert_close(found, logits(model), **EXACT)


def test_heads_that_differ_from_call_to_call_go_together(silent_variants: None) -> None:
    model = make_model({**VARIANTS, "encoder_self": ("two_widths",)})
    places = places_of(model)
    assert (places["encoder_self", 0].attends, places["encoder_self", 0].heads) == (True, 0)
    for mode in ("zero", "uniform"):
        parts = [part for part in parts_of(places, mode) if part.site == "encoder_self"]
        assert parts == [Part("encoder_self"), Part("encoder_self", 0)]
        with without(places, parts[1], mode):
            assert not torch.equal(logits(model), logits(make_model({**VARIANTS, "encoder_self": ("two_widths",)})))


def test_an_attention_inside_another_is_part_of_it() -> None:
    @register_attention("wrapped")
    class Wrapped(Attention):
        """Twice what another one says."""

        def __init__(self, d_model: int, num_heads: int) -> None:
            super().__init__()
            self.inner = build_attention("multi_head", d_model=d_model, num_heads=num_heads)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            return 2 * self.inner(query, key, value, mask)

    model = make_model({**VARIANTS, "cross": ("wrapped", "cross")})
    places = places_of(model)
    assert list(places)[-2:] == [("cross", 0), ("cross", 1)]
    assert not places["cross", 0].attends
    with without(places, Part("cross", 0), "zero"):
        found = logits(model)
    inner = places["cross", 0].module.inner
    with torch.no_grad():
        inner.output_proj.weight.zero_()
        inner.output_proj.bias.zero_()
    assert_close(found, logits(model), **EXACT)


def test_an_error_leaves_nothing_behind(model: Seq2Seq) -> None:
    untouched = logits(model)
    places = places_of(model)
    with pytest.raises(ZeroDivisionError), without(places, Part("cross"), "zero"):
        raise ZeroDivisionError
    assert torch.equal(logits(model), untouched)


CACHED = {"encoder_self": ("multi_head",), "decoder_self": ("self", "multi_head"), "cross": ("cross", "low_rank_v")}


@pytest.mark.parametrize("mode", ["zero", "uniform"])
@pytest.mark.parametrize(
    "part", [Part("cross"), Part("decoder_self"), Part("decoder_self", 1, 1), Part("cross", 1, 0)], ids=str
)
def test_decoding_with_a_cache_is_the_same_without_a_part(mode: str, part: Part) -> None:
    model = make_model(CACHED, seed=11)
    assert model.new_cache() is not None
    src, keep = sources(torch.device("cpu"))
    limits = [9] * len(src)
    places = places_of(model)
    plain = greedy(model, src, keep, max_lengths=limits)
    assert len({len(hypothesis.ids) for hypothesis in plain}) > 3
    with without(places, part, mode):
        for search in (
            lambda cache: [[hypothesis] for hypothesis in greedy(model, src, keep, max_lengths=limits, cache=cache)],
            lambda cache: beam_search(model, src, keep, beam_size=3, n_best=2, max_lengths=limits, cache=cache),
        ):
            for cached, whole in zip(search(True), search(False), strict=True):
                for one, other in zip(cached, whole, strict=True):
                    assert one.ids == other.ids
                    assert one.log_probability == pytest.approx(other.log_probability, abs=1e-10)
        assert greedy(model, src, keep, max_lengths=limits) != plain
    assert greedy(model, src, keep, max_lengths=limits) == plain
