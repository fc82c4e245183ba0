from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attnframe import Attention, UserError
from attnframe.model import SITES, AttentionFactory, Seq2Seq, VariantChoice
from attnframe.model.matching import Match, match_d_ff

LENGTH, WORDS = 11, 17


@dataclasses.dataclass(frozen=True)
class Sizes:
    num_heads: int
    d_model: int
    encoder_d_model: int
    encoder_layers: int
    decoder_layers: int
    d_ff: int

    def factory(self, name: str, options: Mapping[str, Any] = {}) -> AttentionFactory:
        layers = {
            "encoder_self": self.encoder_layers,
            "decoder_self": self.decoder_layers,
            "cross": self.decoder_layers,
        }
        return AttentionFactory(
            choices={site: (VariantChoice(name, options),) * layers[site] for site in SITES},
            d_model=self.d_model,
            encoder_d_model=self.encoder_d_model,
            num_heads=self.num_heads,
            backend="eager",
        )

    def match(self, factory: AttentionFactory, by: str, **changes: Any) -> Match:
        arguments = {"reference": "multi_head", "d_ff": self.d_ff, "length": LENGTH, **changes}
        return match_d_ff(
            factory,
            by=by,
            num_encoder_layers=self.encoder_layers,
            num_decoder_layers=self.decoder_layers,
            **arguments,
        )

    def model(self, factory: AttentionFactory, d_ff: int) -> Seq2Seq:
        return Seq2Seq(
            src_vocab_size=WORDS,
            tgt_vocab_size=WORDS,
            attention=factory,
            num_encoder_layers=self.encoder_layers,
            num_decoder_layers=self.decoder_layers,
            d_ff=d_ff,
            dropout=0.0,
        )

    def cost(self, factory: AttentionFactory, d_ff: int, by: str) -> float:
        """Counted on a model that is really built: its numbers, or the products of a real forward pass."""
        model = self.model(factory, d_ff)
        if by == "params":
            embeddings = [module for module in model.modules() if isinstance(module, nn.Embedding)]
            return numbers(model) - sum(map(numbers, embeddings))
        ids = torch.randint(4, WORDS, (1, LENGTH))
        with FlopCounterMode(display=False) as counter:
            model(ids, None, ids)
        return counter.get_total_flops() / LENGTH - 2 * WORDS * self.d_model


def numbers(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


SMALL = Sizes(5, 35, 35, 2, 3, 131)
SIZES = [
    SMALL,
    pytest.param(Sizes(2, 22, 22, 1, 1, 509), marks=pytest.mark.slow),
    pytest.param(Sizes(3, 33, 33, 3, 1, 257), marks=pytest.mark.slow),
]
NARROW = Sizes(5, 35, 15, 2, 3, 131)
RANKS = [{"rank": 1}, {"rank": 13}]


@pytest.mark.parametrize("by", ["params", "flops"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_every_variant_costs_what_the_reference_does(variant_name: str, sizes: Sizes, by: str) -> None:
    for options in [{}, *(RANKS if variant_name == "low_rank_v" else [])]:
        factory = sizes.factory(variant_name, options)
        match = sizes.match(factory, by)
        ratio = sizes.cost(factory, match.d_ff, by) / sizes.cost(sizes.factory("multi_head"), sizes.d_ff, by)
        assert abs(ratio - 1) < 0.01
        assert match.ratio == pytest.approx(ratio, rel=1e-12)
        assert (match.by, match.reference, match.d_ff_before, match.length) == (by, "multi_head", sizes.d_ff, LENGTH)


def test_without_a_match_they_would_differ() -> None:
    for by in ("params", "flops"):
        ratio = SMALL.cost(SMALL.factory("uniform"), 131, by) / SMALL.cost(SMALL.factory("multi_head"), 131, by)
        assert abs(ratio - 1) > 0.05


@pytest.mark.parametrize("by", ["params", "flops"])
def test_no_width_is_nearer(by: str) -> None:
    factory = SMALL.factory("low_rank_v", {"rank": 2})
    wanted = SMALL.cost(SMALL.factory("multi_head"), SMALL.d_ff, by)
    d_ff = SMALL.match(factory, by).d_ff
    differences = {step: abs(SMALL.cost(factory, d_ff + step, by) - wanted) for step in (-1, 0, 1)}
    assert min(differences, key=lambda step: differences[step]) == 0


def test_the_reference_itself_stays_as_it_is(variant_name: str) -> None:
    match = SMALL.match(SMALL.factory(variant_name), "params", reference=variant_name)
    assert (match.d_ff, match.ratio) == (SMALL.d_ff, 1.0)
    assert str(match) == f"d_ff 131 -> 131: parameters within 0.00 % of {variant_name}"


def test_attention_is_untouched() -> None:
    factory = SMALL.factory("uniform")
    before, after = (SMALL.model(factory, d_ff) for d_ff in (SMALL.d_ff, SMALL.match(factory, "params").d_ff))
    sizes = [
        {name: numbers(module) for name, module in model.named_modules() if isinstance(module, Attention)}
        for model in (before, after)
    ]
    assert sizes[0] == sizes[1]
    assert numbers(before) != numbers(after)


@pytest.mark.parametrize("by", ["params", "flops"])
def test_a_narrow_encoder_and_a_variant_for_each_layer(by: str) -> None:
    factory = NARROW.factory("cross")
    mixed = {
        **factory.choices,
        "decoder_self": tuple(
            VariantChoice(name, options)
            for name, options in (("uniform", {}), ("low_rank_v", {"rank": 19}), ("self", {}))
        ),
        "encoder_self": (VariantChoice("uniform"), VariantChoice("multi_head")),
    }
    mixed_factory = dataclasses.replace(factory, choices=mixed)
    match = NARROW.match(mixed_factory, by, reference="cross")
    ratio = NARROW.cost(mixed_factory, match.d_ff, by) / NARROW.cost(factory, NARROW.d_ff, by)
    assert abs(ratio - 1) < 0.01
    assert match.d_ff != NARROW.d_ff


def test_flops_hang_on_the_length() -> None:
    factory = SMALL.factory("self")
    assert SMALL.match(factory, "params", length=997) == dataclasses.replace(SMALL.match(factory, "params"), length=997)
    low_rank = SMALL.factory("low_rank_v", {"rank": 35})
    assert (
        SMALL.match(low_rank, "flops", length=13, d_ff=997).d_ff
        > SMALL.match(low_rank, "flops", length=37, d_ff=997).d_ff
    )


def test_what_is_said_is_rounded_up() -> None:
    assert str(Match("params", "self", 128, 512, 541, 0.99961)) == "d_ff 512 -> 541: parameters within 0.04 % of self"
    assert "at length 128 within 0.05 % of self" in str(Match("flops", "self", 128, 512, 541, 1.00041))


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("self", {"by": "parms"}, ["match=parms", "did you mean 'params'"]),
        ("self", {"reference": "slef"}, ["match_to=slef", "did you mean 'self'"]),
        # Attention alone is larger than the whole reference.
        ("multi_head", {"reference": "uniform", "d_ff": 2}, ["d_ff=2", "the nearest, 1,", "more", "of uniform"]),
        # One column more or less is a step of 5 in about 100 parameters.
        ("uniform", {"d_ff": 1}, ["the nearest, 5,", "match_to"]),
    ],
)
def test_what_cannot_be_matched_is_one_sentence(name: str, changes: dict[str, Any], said: list[str]) -> None:
    sizes = SMALL if "reference" in changes else Sizes(1, 2, 2, 1, 1, 1)
    with pytest.raises(UserError) as refused:
        sizes.match(sizes.factory(name), **{"by": "params", **changes})
    for part in said:
        assert part in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_figures_of_a_refusal_are_those_of_real_models() -> None:
    with pytest.raises(UserError) as refused:
        SMALL.match(SMALL.factory("multi_head"), "params", reference="uniform", d_ff=2)
    own = SMALL.cost(SMALL.factory("multi_head"), 1, "params")
    other = SMALL.cost(SMALL.factory("uniform"), 2, "params")
    assert f"makes {own:,} parameters against {other:,}, {100 * (own / other - 1):.2f} % more" in str(refused.value)


def test_a_reference_that_cannot_be_built_there_is_named() -> None:
    with pytest.raises(UserError, match=r"match_to=multi_head: cross: .*d_context=15"):
        NARROW.match(NARROW.factory("cross"), "params")
