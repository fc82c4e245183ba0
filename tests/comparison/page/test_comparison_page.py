"""The document of a comparison: what is put in comes back, and what cannot be shown is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from comparison_samples import GROUPS, TABLE, all_patterns, comparison, curve, difference, patterns
from html_document import HOSTILE, Document
from numpy.testing import assert_allclose

from attnframe.comparison.page import ComparisonPage, comparison_html


def hostile() -> ComparisonPage:
    table = dataclasses.replace(TABLE, title=HOSTILE, caption=HOSTILE, rows=[[HOSTILE, 1, 2, HOSTILE, 3]])
    return ComparisonPage(
        HOSTILE,
        HOSTILE,
        [HOSTILE],
        [table],
        [curve(HOSTILE, HOSTILE)],
        [difference(HOSTILE, "other", HOSTILE, HOSTILE, verdict=HOSTILE)],
        [patterns(HOSTILE)],
        [HOSTILE],
    )


def test_no_text_becomes_markup() -> None:
    plain, document = Document(comparison_html(comparison())), Document(comparison_html(hostile()))
    assert document.tags == plain.tags
    assert document.data["groups"] == [HOSTILE, "other"]
    assert not {"<", ">", "&"} & set(document.raw["script"][0])
    assert comparison_html(hostile()).isascii()


def test_nothing_is_asked_for_and_nothing_is_styled_or_run_in_place() -> None:
    document = Document(comparison_html(comparison()))
    for tag, attributes in document.tags:
        assert tag not in {"link", "img", "iframe", "form", "base", "object"}
        assert not {"src", "href", "style"} & set(attributes)
    assert document.policy["default-src"] == ["'none'"]
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "fetch("):
        assert word not in document.raw["script"][1]
    assert "url(" not in document.raw["style"][0]


def test_curves_and_differences_come_back() -> None:
    page = comparison(curves=[curve("a", "loss", "seconds"), dataclasses.replace(curve("b"), low=None, high=None)])
    data = Document(comparison_html(page)).data
    for given, kept in zip(page.curves, data["curves"], strict=True):
        for name in ("x", "mean", "low", "high"):
            values = getattr(given, name)
            assert kept[name] is None if values is None else assert_allclose(kept[name], values, rtol=5e-6) is None
    assert data["differences"][2] == {
        "first": "multi_query",
        "second": "rotary",
        "measure": "BLEU",
        "set": "test",
        "difference": -3.0,
        "low": None,
        "high": None,
        "p": None,
        "p_holm": None,
        "verdict": "multi_query is higher",
    }


def test_what_is_not_finite_is_a_gap() -> None:
    one = dataclasses.replace(
        curve("a"), mean=[1, np.nan, np.inf, 2, 3, 4, 5], low=[np.nan] + [0] * 6, high=[np.nan] + [9] * 6
    )
    (kept,) = Document(comparison_html(comparison(curves=[one]))).data["curves"]
    assert kept["mean"] == [1, None, None, 2, 3, 4, 5]
    assert kept["low"] == [None, 0, 0, 0, 0, 0, 0]


def test_a_long_curve_is_thinned_out_and_keeps_its_ends() -> None:
    steps = range(0, 7 * 1009, 7)
    (kept,) = Document(comparison_html(comparison(curves=[curve("a", steps=steps)]))).data["curves"]
    assert (kept["x"][0], kept["x"][-1], kept["recorded"]) == (0, 7 * 1008, 1009)
    assert len(kept["x"]) == len(kept["mean"]) == len(kept["low"]) == 400


def test_only_the_last_maps_go_in_and_whole_sentences_are_left_out_to_stay_small() -> None:
    whole = comparison_html(comparison())
    data = Document(whole).data
    assert [run["run"]["shown"] for run in data["patterns"]] == [[1700]] * 3
    assert data["sentences"] == {"shown": 2, "recorded": 2}
    smaller = comparison_html(comparison(), max_bytes=len(whole) - 1)
    assert len(smaller) < len(whole)
    assert Document(smaller).data["sentences"] == {"shown": 1, "recorded": 2}
    assert Document(comparison_html(comparison(), max_bytes=1)).data["sentences"]["shown"] == 1


def test_twelve_groups_with_everything_stay_under_five_megabytes() -> None:
    names = [f"variant_{place}" for place in range(12)]
    metrics = ("val/loss", "train/loss", "val/token_accuracy", "val/bleu", "val/aer")
    curves = [
        curve(name, metric, axis, steps=range(50, 10_050, 50), seed=place)
        for place, name in enumerate(names)
        for metric in metrics
        for axis in ("step", "seconds", "flops")
    ]
    shown = [patterns(name, layers=4, heads=8, seed=1000 * place) for place, name in enumerate(names)]
    html = comparison_html(comparison(curves=curves, patterns=shown))
    assert len(html) < 5_000_000
    assert Document(html).data["sentences"]["shown"] == 2


def test_groups_are_named_once_in_the_order_in_which_they_come() -> None:
    page = comparison(differences=[difference("zeta", "rotary")], patterns=[patterns("alpha")])
    assert page.groups == [*GROUPS, "zeta", "alpha"]


def test_an_empty_comparison_still_has_its_page() -> None:
    data = Document(comparison_html(ComparisonPage("t", "", [], [], [], [], [], []))).data
    assert data["groups"] == []


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"curves": [curve("")]}, "a group has no name"),
        ({"curves": [curve("a"), curve("a")]}, r"the curve \('a', 'val/loss', 'step'\) comes twice"),
        (
            {"curves": [dataclasses.replace(curve("a"), axis="epoch")]},
            "no such axis; it is one of step, seconds, flops",
        ),
        ({"curves": [dataclasses.replace(curve("a"), mean=[1.0])]}, "mean has 1 values for 7 places"),
        ({"curves": [dataclasses.replace(curve("a"), low=[1.0])]}, "low has 1 values for 7 places"),
        ({"curves": [dataclasses.replace(curve("a"), low=None)]}, "a band needs both low and high"),
        ({"curves": [dataclasses.replace(curve("a"), x=[1, 2, 3, np.nan, 5, 6, 7])]}, "x holds nan"),
        ({"curves": [dataclasses.replace(curve("a"), x=[1, 2, 3, 2, 5, 6, 7])]}, "x falls from 3 to 2"),
        ({"curves": [dataclasses.replace(curve("a"), low=[9.0] * 7)]}, "low end 9.0 is above its high end"),
        ({"differences": [difference("a", "b")] * 2}, r"the difference \('a', 'b', 'BLEU', 'test'\) comes twice"),
        ({"differences": [difference("a", "a")]}, "a group cannot differ from itself"),
        ({"differences": [difference("a", "b", difference=np.nan)]}, "it is nan"),
        ({"differences": [difference("a", "b", low=np.nan)]}, "nan to 4.125 is no interval"),
        ({"differences": [difference("a", "b", low=5.0)]}, "5.0 to 4.125 is no interval"),
        ({"differences": [difference("a", "b", p=1.5)]}, "p is 1.5, not from 0 to 1"),
        ({"differences": [difference("a", "b", p_holm=np.nan)]}, "p_holm is nan"),
        ({"tables": [TABLE, TABLE]}, "the table 'Results on test' comes twice"),
        ({"tables": [dataclasses.replace(TABLE, rows=[[1]])]}, "a row of 1 cells under 5 columns"),
        ({"patterns": [*all_patterns(), patterns("rotary")]}, "the group with patterns 'rotary' comes twice"),
    ],
)
def test_what_cannot_be_shown_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        comparison_html(comparison(**changes))
