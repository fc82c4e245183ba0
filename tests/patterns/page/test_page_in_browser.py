"""The page in a browser: what is chosen is what is shown, and what is shown is what was recorded."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from colour_contrast import luminance
from page_reading import array, hover, pixels, set_time
from page_samples import SRC, STEPS, TGT, labels, pattern, run, sentence

from attnframe.attention import PatternKind
from attnframe.patterns.page import PageSentence

pytestmark = pytest.mark.slow
Show = Callable[..., Any]


def test_every_choice_leads_to_its_own_numbers(show: Show) -> None:
    shown = run()
    page = show(shown)
    for place, site, layer, head, time in [(0, "cross", 0, 0, 4), (1, "cross", 1, 2, 2), (1, "decoder_self", 0, 1, 0)]:
        page.select_option("#sentence", index=place)
        page.select_option("#site", site)
        page.select_option("#run1-layer", index=layer)
        page.select_option("#run1-head", index=head)
        set_time(page, time)
        expected = array(shown, place, site, layer)[time, head]
        for row, column in [(0, 0), (3, 2), (expected.shape[0] - 1, expected.shape[1] - 1)]:
            assert float(hover(page, row, column)) == pytest.approx(expected[row, column], abs=0.00052)
        assert page.locator("#step").inner_text().startswith(f"step {STEPS[time]}")
        (chosen,) = page.locator("#run1-heads [aria-pressed=true]").all()
        assert chosen.get_attribute("aria-label").startswith(f"layer {layer + 1}, head {head + 1}")


def test_the_reading_names_its_tokens_and_its_link(show: Show) -> None:
    page = show(run())
    hover(page, 1, 2)
    assert re.fullmatch(r"chien to dog: weight [01]\.\d{3}, sure gold link", page.locator("#run1-readout").inner_text())
    hover(page, 4, 3)
    assert page.locator("#run1-readout").inner_text().endswith(", possible gold link")
    hover(page, 0, 1)
    assert "gold" not in page.locator("#run1-readout").inner_text()
    assert page.locator("#run1 .query-labels .current").inner_text() == TGT[0]
    assert page.locator("#run1 .key-labels .current").inner_text() == SRC[1]


def test_heads_are_chosen_in_the_grid(show: Show) -> None:
    shown = run()
    page = show(shown)
    assert page.locator("#run1-heads button").count() == 6
    page.click("#run1-heads [data-layer='1'][data-head='2']")
    assert float(hover(page, 2, 1)) == pytest.approx(array(shown, 0, "cross", 1)[-1, 2, 2, 1], abs=0.00052)
    assert (page.locator("#run1-layer").input_value(), page.locator("#run1-head").input_value()) == ("1", "2")


def test_contributions_are_their_own_numbers_on_their_own_scale(show: Show) -> None:
    shown = run()
    page = show(shown)
    page.check("#contributions")
    layer, head = (int(page.locator(f"#run1-{name}").input_value()) for name in ("layer", "head"))
    norms = array(shown, 0, "cross", layer, "contributions")
    assert float(hover(page, 3, 1)) == pytest.approx(norms[-1, head, 3, 1], abs=0.00052)
    legend = page.locator("#run1-legend").inner_text()
    assert f"up to the largest of layer {layer + 1} over all heads and steps" in legend
    largest = page.locator("#run1-legend .tick").last.inner_text()
    assert float(largest) == pytest.approx(norms.max(), rel=0.006)


def test_without_contributions_the_choice_says_why_it_is_closed(show: Show) -> None:
    page = show(run(sentences=[sentence(contributions=False)]), hash="#show=contributions")
    assert page.locator("#contributions").is_disabled()
    assert page.locator("#weights").is_checked()
    assert page.locator("#contributions-reason").inner_text().startswith("No contributions")
    assert page.locator("#run1-readout").count() == 1


@pytest.mark.parametrize(("theme", "sign"), [("light", -1), ("dark", 1)])
@pytest.mark.parametrize("scale", ["linear", "log"])
def test_more_weight_is_farther_from_the_paper_in_lightness(show: Show, theme: str, sign: int, scale: str) -> None:
    shown = run()
    page = show(shown, hash="#layer=1&head=2", theme=theme)
    page.check(f"#{scale}")
    weights = array(shown, 0, "cross", 0)[-1, 1].ravel()
    lightness = sign * luminance(pixels(page))
    order = np.argsort(weights)
    # A level of 256 may be shared; it never goes back, but for the rounding of its colour.
    assert (np.diff(lightness[order]) >= -0.002).all()
    distinct = len(np.unique(lightness.round(4)))
    assert distinct > 20
    assert "log scale" in page.locator("#run1-legend").inner_text() or scale == "linear"


def test_log_shows_what_linear_hides(show: Show) -> None:
    shown = run()
    page = show(shown, hash="#layer=1&head=2")
    weights = array(shown, 0, "cross", 0)[-1, 1].ravel()
    small = (weights > 0.001) & (weights < 0.01)
    assert small.any()
    linear = luminance(pixels(page))[small]
    page.check("#log")
    assert (luminance(pixels(page))[small] < linear - 0.1).all()


def test_signed_weights_have_two_colours_and_say_so(show: Show) -> None:
    shown = run(sentences=[sentence(kind=PatternKind.SIGNED)])
    page = show(shown, hash="#layer=1&head=2")
    weights = array(shown, 0, "cross", 0)[-1, 1].ravel()
    colours = pixels(page)
    strong = np.abs(weights) > 0.3
    assert strong.sum() > 5
    assert ((colours[strong, 0] > colours[strong, 2]) == (weights[strong] < 0)).all()
    assert page.locator("#run1-kind").inner_text().startswith("signed: ")
    ticks = [float(text) for text in page.locator("#run1-legend .tick").all_inner_texts()]
    assert ticks[0] == -ticks[2]
    place = int(np.argmin(weights))
    assert float(hover(page, place // 5, place % 5)) == pytest.approx(weights[place], abs=0.0006)


@pytest.mark.parametrize("kind", list(PatternKind))
def test_the_kind_is_always_said(show: Show, kind: PatternKind) -> None:
    page = show(run(sentences=[sentence(kind=kind)]))
    assert page.locator("#run1-kind").inner_text().startswith(f"{kind}: ")


def test_gold_links_outline_their_cells(show: Show) -> None:
    page = show(run())

    def cells(strength: str) -> set[tuple[int, int]]:
        size = page.locator("#run1-map").bounding_box()["width"] / len(SRC)
        boxes = [box.bounding_box() for box in page.locator(f"#run1-map .gold.{strength}").all()]
        field = page.locator("#run1-map").bounding_box()
        return {
            (
                int((box["x"] + box["width"] / 2 - field["x"]) // size),
                int((box["y"] + box["height"] / 2 - field["y"]) // size),
            )
            for box in boxes
        }

    assert cells("sure") == {(0, 0), (2, 1), (1, 2)}
    assert cells("possible") == {(3, 4)}
    page.uncheck("#gold")
    assert cells("sure") == cells("possible") == set()
    page.check("#gold")
    page.select_option("#site", "encoder_self")
    assert cells("sure") == set()
    assert page.locator("#gold").is_disabled()


def test_the_slider_plays_to_the_end_and_can_be_stopped(show: Show) -> None:
    shown = run()
    page = show(shown, hash="#layer=1&head=1")
    hover(page, 0, 0)
    page.click("#play")
    seen = []
    for time, step in enumerate(STEPS):
        page.locator(f"#time[aria-valuetext='step {step}']").wait_for()
        seen.append(float(page.locator("#run1-readout .value").inner_text()))
        assert page.locator("#time").input_value() == str(time)
    assert seen == pytest.approx(array(shown, 0, "cross", 0)[:, 0, 0, 0].tolist(), abs=0.00052)
    assert page.locator("#play").inner_text() == "Play"
    page.click("#play")
    page.locator(f"#time[aria-valuetext='step {STEPS[1]}']").wait_for()
    page.click("#play")
    page.wait_for_timeout(900)
    assert page.locator("#time").input_value() == "1"


def test_charts_say_what_was_measured_at_the_step(show: Show) -> None:
    page = show(run(), hash="#site=cross&layer=2&head=3")
    set_time(page, 2)

    def value(name: str) -> str:
        return str(page.locator(f"#traces [data-trace='{name}'] .chart-value").inner_text())

    assert (value("val/loss"), value("val/aer"), value("entropy")) == ("0.5", "0.4", "1")
    set_time(page, 0)
    assert (value("val/loss"), value("val/aer")) == ("3.2", "–")
    set_time(page, 4)
    assert value("entropy") == "17.3", "of layer 2, head 3 of cross, the 18th head"


def test_importance_lies_over_the_heads_until_it_is_turned_off(show: Show) -> None:
    page = show(run())
    button = page.locator("#run1-heads [data-layer='1'][data-head='2']")
    assert button.locator(".nats").inner_text() == "+2.13"
    assert "raises the loss by 2.125 nats" in button.get_attribute("aria-label")
    assert (
        "what the loss rises by (nats per target token) when the head is zeroed"
        in page.locator("#run1-heads-note").inner_text()
    )
    page.uncheck("#importance")
    assert page.locator("#run1-heads-note").inner_text() == ""
    assert not button.locator(".nats").is_visible()


def test_a_token_that_is_pointed_at_keeps_its_own_row_or_column(show: Show) -> None:
    shown = run()
    page = show(shown, hash="#layer=1&head=2")
    weights = array(shown, 0, "cross", 0)[-1, 1]
    page.hover("#run1-lines .queries button >> nth=3")
    pale = page.locator("#run1-lines .keys button").evaluate_all("all => all.map(b => b.classList.contains('pale'))")
    assert pale == (weights[3] < 0.03).tolist()
    page.hover("#run1-lines .keys button >> nth=1")
    pale = page.locator("#run1-lines .queries button").evaluate_all("all => all.map(b => b.classList.contains('pale'))")
    assert pale == (weights[:, 1] < 0.03).tolist()
    page.hover("h1")
    assert page.locator("#run1-lines .pale").count() == 0


def test_the_address_holds_the_view(show: Show) -> None:
    shown = run()
    page = show(shown)
    page.select_option("#sentence", index=1)
    page.select_option("#site", "encoder_self")
    page.click("#run1-heads [data-layer='1'][data-head='1']")
    page.check("#log")
    set_time(page, 3)
    value, address = hover(page, 1, 2), page.url
    assert {"sentence=2", "site=encoder_self", "layer=2", "head=2", "step=900"} <= set(re.split("[#&]", address))
    again = show(shown, hash=f"#{address.partition('#')[2]}")
    assert hover(again, 1, 2) == value
    assert again.locator("#log").is_checked()
    assert again.locator("#time").input_value() == "3"


def test_nonsense_in_the_address_is_passed_over(show: Show) -> None:
    page = show(run(), hash="#sentence=99&site=nowhere&layer=77&head=0&step=-1&show=all&scale=x&%%%")
    assert page.locator("#step").inner_text().startswith("step 1100")
    assert page.locator("#run1-layer").input_value() == "1"
    assert float(hover(page, 0, 0)) >= 0


def test_only_some_steps_are_shown_and_that_is_said(show: Show) -> None:
    page = show(run(), max_bytes=1)
    assert page.locator("#time-note").inner_text() == (
        "2 of 5 validations of first have maps here, to keep this file small."
    )
    assert page.locator("#time").get_attribute("max") == "4"


def test_a_validation_without_maps_has_its_numbers_and_the_nearest_earlier_maps(show: Show) -> None:
    places = (1, 3)
    maps = pattern(7, 5, times=2)
    shown = run(
        sentences=[PageSentence("s", "t", labels(), {("cross", 0): maps})], pattern_steps=[STEPS[at] for at in places]
    )
    page = show(shown, hash="#layer=1&head=2")
    assert page.locator("#time-note").inner_text() == "2 of 5 validations of first have maps here."
    for time, place, notice in [
        (0, 0, "This run has no maps as early as step 100: shown are those of step 300, its first."),
        (1, 0, ""),
        (2, 0, "This run has no maps of step 500: shown are those of step 300, the nearest earlier ones."),
        (3, 1, ""),
        (4, 1, "This run has no maps of step 1100: shown are those of step 900, the nearest earlier ones."),
    ]:
        set_time(page, time)
        assert float(hover(page, 2, 1)) == pytest.approx(maps.weights[place, 1, 2, 1], abs=6e-4)
        assert page.locator("#run1-notice").text_content() == notice
        assert float(page.locator("[data-trace='val/loss'] .chart-value").inner_text()) == pytest.approx(
            [3.2, 1.1, 0.5, 0.25, 0.125][time]
        )


def test_the_page_opens_on_the_head_that_the_aer_is_read_from(show: Show) -> None:
    for layer, head in ((0, 2), (1, 0)):
        page = show(run(opening=("cross", layer, head)))
        (chosen,) = page.locator("#run1-heads [aria-pressed=true]").all()
        assert chosen.get_attribute("aria-label").startswith(f"layer {layer + 1}, head {head + 1}, best AER, zeroing")
        (best,) = page.locator("#run1-heads .best:visible").all()
        assert best.inner_text() == "best AER"
        assert chosen.locator(".best").is_visible()
        assert "alignment error rate" in page.locator("#run1-heads-note").inner_text()
        page.select_option("#site", "encoder_self")
        assert page.locator("#run1-heads .best:visible").count() == 0
        assert "alignment error rate" not in page.locator("#run1-heads-note").inner_text()
    page = show(run(opening=("encoder_self", 1, 1)))
    assert page.locator("#site").input_value() == "encoder_self"
    page = show(run(opening=("elsewhere", 1, 1)), run("b", opening=("cross", 1, 2)))
    assert page.locator("#site").input_value() == "cross"
    assert (page.locator("#run2-layer").input_value(), page.locator("#run2-head").input_value()) == ("1", "2")


def test_charts_have_names_in_words_that_are_not_clipped(show: Show) -> None:
    page = show(run(traces={"val/a_very_long_name_of_what_was_measured": [1.0, 2, 3, 4, 5]}))
    assert page.locator("#run-traces h2").inner_text() == "Validation"
    names = page.locator(".chart-name")
    assert names.all_inner_texts() == ["a very long name of what was measured", "entropy"]
    fits = names.evaluate_all("all => all.map(e => e.scrollWidth <= e.clientWidth + 1 || e.offsetWidth === 0)")
    assert all(fits)
    box, card = names.first.bounding_box(), page.locator(".chart").first.bounding_box()
    assert box["x"] + box["width"] <= card["x"] + card["width"]


def test_the_sentence_says_what_its_translation_is(show: Show) -> None:
    page = show(run())
    said = page.locator("#run1 .sentence").inner_text()
    assert said.startswith("the red dog sleeps → le chien rouge dort ici .")
    assert said.endswith("(reference translation, which the decoder is told to say)")


def test_a_pattern_of_many_kinds_of_layers(show: Show) -> None:
    one = sentence()
    patterns = {**one.patterns, ("cross", 1): pattern(7, 5, heads=2, kind=PatternKind.IMPLICIT)}
    page = show(run(sentences=[type(one)(one.source, one.target, one.labels, patterns)]), hash="#layer=2&head=3")
    assert page.locator("#run1-heads button").count() == 5
    assert page.locator("#run1-head").input_value() == "1", "the nearest head that is there"
