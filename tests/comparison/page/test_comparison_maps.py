"""Patterns side by side in a browser: all groups follow, on one scale, and say what they lack."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
from comparison_reading import point_at, shown_map, value, weights_of
from comparison_samples import comparison, patterns

from attnframe.attention import PatternKind

pytestmark = pytest.mark.slow
ShowComparison = Callable[..., Any]


def test_maps_open_on_each_groups_best_head_and_are_read_together(show_comparison: ShowComparison) -> None:
    page = show_comparison(comparison())
    assert page.locator("#head").input_value() == "own"
    assert page.locator("#group2-where").inner_text() == "layer 1, head 2; probability"
    point_at(page, 1, 3, 2)
    for group, layer in ((1, 1), (2, 0), (3, 1)):
        assert value(page, group) == pytest.approx(weights_of(group, "cross", layer)[1, 3, 2], abs=0.00052)
    point_at(page, 3, 1, 2)
    assert page.locator("#group1-readout").inner_text().endswith("sure gold link")
    assert page.locator("#group1 .map-overlay .gold").count() == 4


def test_all_groups_follow_sentence_site_layer_and_head_and_say_what_they_lack(show_comparison: ShowComparison) -> None:
    page = show_comparison(comparison())
    page.select_option("#head", index=2)
    page.select_option("#layer", index=1)
    assert page.locator("#group2-notice").inner_text() == "No layer 2 here: it has layer 1 only."
    assert page.locator("#group3-notice").inner_text() == "No head 3 here: layer 2 has heads 1 to 2."
    assert shown_map(page, 2).is_hidden()
    point_at(page, 1, 6, 4)
    assert value(page, 1) == pytest.approx(weights_of(1, "cross", 1)[2, 6, 4], abs=0.00052)
    page.select_option("#sentence", index=1)
    page.select_option("#site", "encoder_self")
    page.select_option("#layer", index=0)
    page.select_option("#head", index=0)
    point_at(page, 2, 2, 1, rows=5)
    for group in (1, 2, 3):
        expected = weights_of(group, "encoder_self", 0, sentence=1)[0, 2, 1]
        assert value(page, group) == pytest.approx(expected, abs=0.00052)
    assert page.locator("#gold").is_disabled()
    page.check("#contributions")
    assert page.locator("#group3-notice").inner_text().startswith("No contributions here")
    assert value(page, 1) == pytest.approx(1.7 * weights_of(1, "encoder_self", 0, sentence=1)[0, 2, 1], abs=0.00052)


def test_one_scale_holds_for_all_maps(show_comparison: ShowComparison) -> None:
    low = patterns("a", seed=1, kind=PatternKind.UNNORMALISED)
    site = low.run.sentences[0].patterns["cross", 0]
    halved = {
        place: dataclasses.replace(one, weights=one.weights / 2) for place, one in low.run.sentences[0].patterns.items()
    }
    half = dataclasses.replace(low.run, sentences=[dataclasses.replace(low.run.sentences[0], patterns=halved)])
    page = show_comparison(comparison(patterns=[low, dataclasses.replace(low, group="b", run=half)]))
    page.select_option("#head", index=0)
    page.select_option("#layer", index=0)
    largest = float(page.locator("#pattern-key .tick").last.inner_text())
    assert largest == pytest.approx(site.weights[-1].max(), rel=0.006)

    def darkest(group: str) -> list[int]:
        found: list[int] = page.locator(f"[aria-label='{group}'] .map canvas").evaluate(
            "e => { const copy = new OffscreenCanvas(e.width, e.height).getContext('2d'); copy.drawImage(e, 0, 0);"
            " const data = copy.getImageData(0, 0, e.width, e.height).data;"
            " return [...data].filter((_, index) => index % 4 === 0); }"
        )
        return found

    whole, halves = darkest("a"), darkest("b")
    assert min(halves) > min(whole), "half the weight is a paler blue"
