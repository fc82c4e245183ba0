"""What is right passes: the core variants, the example plugins, and ideas from other corners of the contract."""

from __future__ import annotations

import enum
import re
from pathlib import Path

import pytest
from torch import Tensor, nn

from attnframe import Attention, Mask, UserError, discovery, register_attention, registry
from attnframe.attention.capability import capabilities
from attnframe.testing import CHECKS, SLOW_CHECKS, Outcome, Verdict, attnframe_contract, check_variant
from attnframe.testing.option_sets import option_sets
from attnframe.testing.subject import SIZES, Subject

PLUGINS = sorted((Path(__file__).parents[2] / "plugins").glob("[!_]*.py"))
CORRECT = Path(__file__).parent / "correct" / "other_corners.py"
# These start a Python, or the compiler.
LONG = {"fresh-process", "compile"}

# What the ideas cannot be asked, beside what the names of these say.
NOT_APPLICABLE = {
    "right_additive": {"cached-decoding", "backends"},
    "right_differential": set(),
    "right_gated": {"backends"},
    "right_latent": {"pattern-output"},
    "right_linear": {"dropout", "cached-decoding", "backends"},
    "right_mixed": {"causal", "cached-decoding"},
    "right_neighbours": {"cached-decoding"},
    "right_rotary": set(),
    "right_silent": {"cached-decoding", "pattern", "pattern-output"},
    "right_sink": {"dropout", "cached-decoding", "backends"},
    "right_sliding": set(),
    "right_talking_heads": {"dropout", "cached-decoding", "backends"},
}


def outcomes(verdicts: list[Verdict]) -> dict[str, Outcome]:
    assert not [verdict.sentence for verdict in verdicts if verdict.failed]
    return {verdict.check.name: verdict.outcome for verdict in verdicts}


def short(variant: registry.Variant | str) -> dict[str, Outcome]:
    return outcomes(list(check_variant(variant, only=set(CHECKS) - LONG)))


def only_on_eager(name: str) -> bool:
    """Whether there is no second backend to compare with, or none is asked."""
    found = capabilities(d_model=24, num_heads=4, variants=[name], devices=["cpu"])
    return any(one.own for one in found) or [one.backend for one in found if one.runs] == ["eager"]


def test_core_variants_pass_everything(variant_name: str) -> None:
    expected = dict.fromkeys((name for name in CHECKS if name not in LONG), Outcome.PASSED)
    if only_on_eager(variant_name):
        expected["backends"] = Outcome.NOT_APPLICABLE
    assert short(variant_name) == expected


@pytest.mark.slow
def test_core_variants_pass_what_takes_long(variant_name: str) -> None:
    attnframe_contract(variant_name, only=LONG)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["multi_head", "low_rank_v"])
def test_core_variants_pass_with_inductor(name: str, backend: str) -> None:
    attnframe_contract(name, backend=backend, only=SLOW_CHECKS)


@pytest.mark.slow
@pytest.mark.parametrize("file", PLUGINS, ids=lambda file: file.stem)
def test_example_plugins_pass_everything(file: Path) -> None:
    for variant in discovery.load_plugin_file(file):
        assert Outcome.PASSED in outcomes(list(check_variant(variant))).values()


@pytest.mark.slow
@pytest.mark.parametrize("name", NOT_APPLICABLE)
def test_ideas_from_other_corners_pass_what_applies_to_them(name: str) -> None:
    found = {variant.name: variant for variant in discovery.load_plugin_file(CORRECT)}
    assert set(found) == set(NOT_APPLICABLE)
    verdicts = outcomes(list(check_variant(found[name])))
    skipped = {check for check, outcome in verdicts.items() if outcome is Outcome.NOT_APPLICABLE}
    assert skipped == NOT_APPLICABLE[name]
    assert set(verdicts) == set(CHECKS)


def test_checks_say_what_they_mean() -> None:
    for name, check in (CHECKS | SLOW_CHECKS).items():
        assert name == check.name
        assert len(check.meaning.split()) > 5
        assert not check.meaning.endswith(".")


def test_the_page_names_every_check() -> None:
    page = (Path(__file__).parents[2] / "docs" / "checking.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([a-z-]+)` \|", page, re.MULTILINE) == [*CHECKS, *SLOW_CHECKS]


def test_what_is_misspelt_is_refused() -> None:
    with pytest.raises(UserError, match="did you mean 'causal'"):
        list(check_variant("multi_head", only=["casual"]))
    with pytest.raises(UserError, match="did you mean 'eager'"):
        list(check_variant("multi_head", backend="eagre"))
    with pytest.raises(UserError, match="did you mean 'multi_head'"):
        list(check_variant("multi_heda"))


class Colour(enum.Enum):
    RED = 1
    BLUE = 2


class Choosy(Attention):
    """Values, for what options are like."""

    def __init__(
        self,
        d_model: int,
        *,
        rank: int = 4,
        share: float | None = None,
        flag: bool = True,
        colour: Colour = Colour.RED,
        word: str = "a",
        never: int = 7,
    ) -> None:
        super().__init__()
        if rank > 4 or never != 7 or d_model == SIZES[0][0]:
            raise UserError("no")
        if share is not None and not 0 < share < 0.5:
            raise ValueError("no")
        self.value_proj = nn.Linear(d_model, d_model)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        return query


def test_options_are_tried_at_one_other_legal_value() -> None:
    register_attention("choosy")(Choosy)
    subject = Subject(registry.variants()["choosy"], d_model=SIZES[1][0])
    assert option_sets(subject) == [{}, {"rank": 2}, {"share": 0.35}, {"flag": False}, {"colour": Colour.BLUE}]


class WrongWithOneOption(Attention):
    """Sees the future, but with an option only."""

    def __init__(self, d_model: int, *, peeks: bool = False) -> None:
        super().__init__()
        self.peeks = peeks

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1)
        return self.attend(q, k, v.flip(2) if self.peeks else v, mask).squeeze(1)


def test_the_failing_case_names_the_options() -> None:
    register_attention("wrong_with_one_option")(WrongWithOneOption)
    (verdict,) = check_variant("wrong_with_one_option", only=["causal"])
    assert verdict.detail.startswith("backend=eager, peeks=True: causal, 7 tokens")
    with pytest.raises(
        AssertionError, match=r"wrong_with_one_option: causal failed: .*What should hold: under a causal"
    ):
        attnframe_contract("wrong_with_one_option", only=["shape", "causal"])


def test_a_backend_that_cannot_run_it_is_not_applicable() -> None:
    verdicts = list(check_variant("alibi", backend="sdpa", only=["causal", "padding"]))
    assert [verdict.outcome for verdict in verdicts] == [Outcome.NOT_APPLICABLE] * 2
    assert "sdpa has no score_mod" in verdicts[0].sentence


class RefusesCausality(Attention):
    """Has no causal form, and says so."""

    def __init__(self, d_model: int) -> None:
        super().__init__()

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        if mask.causal:
            raise UserError("refuses_causality has no causal form")
        return self.attend(query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1), mask).squeeze(1)


def test_a_mask_may_be_refused() -> None:
    register_attention("refuses_causality")(RefusesCausality)
    verdicts = {
        verdict.check.name: verdict for verdict in check_variant("refuses_causality", only=["causal", "padding"])
    }
    assert verdicts["causal"].outcome is Outcome.NOT_APPLICABLE
    assert "refuses_causality has no causal form" in verdicts["causal"].detail
    assert verdicts["padding"].outcome is Outcome.PASSED
