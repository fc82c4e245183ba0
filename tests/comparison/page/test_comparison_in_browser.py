"""The page of a comparison in a browser: what is shown is what was given, by mouse, by keyboard and on a phone."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from colour_contrast import contrast
from comparison_samples import (
    GROUPS,
    STEPS,
    TABLE,
    all_patterns,
    comparison,
    curve,
    curves,
    difference,
    patterns,
)
from html_document import HOSTILE
from offline_browser import tab_to

from attnframe.attention import PatternKind
from attnframe.comparison.page import PageCurve

pytestmark = pytest.mark.slow
ShowComparison = Callable[..., Any]


def readings(page: Any) -> dict[str, tuple[str, str]]:
    """By group: the mean and the band that are read at the cursor."""
    rows = page.locator("#readings tbody tr").all()
    return {
        row.locator(".group-name").inner_text(): (
            row.locator(".value").inner_text(),
            row.locator(".interval").inner_text(),
        )
        for row in rows
    }


def check_readings(page: Any, given: dict[str, PageCurve], place: int) -> None:
    """What is read is what was given at the n-th place, to the three decimals shown."""
    found = readings(page)
    assert list(found) == list(given)
    for group, (mean, band) in found.items():
        one = given[group]
        assert one.low is not None
        assert one.high is not None
        assert float(mean) == pytest.approx(one.mean[place], abs=0.00051)
        ends = [float(end.replace("−", "-")) for end in band.split(" to ")]
        assert ends == pytest.approx([one.low[place], one.high[place]], abs=0.00051)


def of(metric: str, axis: str) -> dict[str, PageCurve]:
    return {one.group: one for one in curves() if (one.metric, one.axis) == (metric, axis)}


def hover_chart(page: Any, along: float) -> None:
    """Point into the plot, from 0 at its left end to 1 at its right end."""
    page.locator("#chart").scroll_into_view_if_needed()
    plot = page.locator("#chart clipPath rect").evaluate(
        "e => [e.x.baseVal.value, e.width.baseVal.value, e.ownerSVGElement.getBoundingClientRect().x,"
        " e.ownerSVGElement.getBoundingClientRect().y]"
    )
    page.mouse.move(plot[2] + plot[0] + along * plot[1], plot[3] + 80)


def test_warnings_stand_before_everything(show_comparison: ShowComparison) -> None:
    page = show_comparison(comparison(warnings=["one seed", "other data"]))
    assert page.locator("#warnings h2").inner_text() == "Unfair comparison"
    assert page.locator("#warnings li").all_inner_texts() == ["one seed", "other data"]
    warnings, results = (page.locator(place).bounding_box() for place in ("#warnings", "#results"))
    assert warnings["y"] + warnings["height"] < results["y"]
    fair = show_comparison(comparison(warnings=[]))
    assert fair.locator("#warnings").is_hidden()


def test_the_main_table_is_sorted_by_its_columns(show_comparison: ShowComparison) -> None:
    page = show_comparison(comparison())

    def names() -> list[str]:
        found: list[str] = page.locator("#results .group-name").all_inner_texts()
        return found

    head = page.locator("#results th", has_text="BLEU")
    for order, expected in [
        ("descending", ["multi_head", "multi_query", "rotary"]),
        ("ascending", ["multi_query", "multi_head", "rotary"]),
        (None, ["multi_head", "multi_query", "rotary"]),
    ]:
        head.locator("button").click()
        assert (head.get_attribute("aria-sort"), names()) == (order, expected)
    page.locator("#results th", has_text="interval").locator("button").press("Enter")
    assert names() == ["multi_head", "multi_query", "rotary"]
    page.locator("#results th", has_text="variant").locator("button").click()
    page.locator("#results th", has_text="variant").locator("button").click()
    assert names() == ["rotary", "multi_query", "multi_head"]
    assert page.locator("#results td").nth(14).inner_text() == "41237"
    assert page.locator("#tables h2").all_inner_texts() == ["By length", "Failed runs"]


def test_the_forest_plot_has_points_and_intervals_where_the_numbers_are(show_comparison: ShowComparison) -> None:
    page = show_comparison(comparison())
    rows = page.locator("#forest [role=row]:not(.forest-head)")
    assert rows.count() == 3
    assert rows.nth(0).inner_text().split("\n")[-4:] == [
        "+2.25 [+0.50, +4.13]",
        "0.013",
        "0.037",
        "multi_head is higher",
    ]
    assert "−3.00, no interval" in rows.nth(2).inner_text()
    drawn = page.evaluate(
        "() => [...document.querySelectorAll('.forest-picture')].map(picture => {"
        " const middle = e => { const box = e.getBoundingClientRect(); return box.x + box.width / 2; };"
        " const ends = [...picture.querySelectorAll('.interval-end')].map(middle);"
        " return [middle(picture.querySelector('.zero')), middle(picture.querySelector('.estimate')), ...ends]; })"
    )
    given = [[0, 2.25, 0.5, 4.125], [0, -0.75, -2.5, 1.0], [0, -3.0]]
    scale = (drawn[0][1] - drawn[0][0]) / 2.25
    for places, values in zip(drawn, given, strict=True):
        assert np.subtract(places, places[0]) == pytest.approx(scale * np.array(values), abs=1)
    filled = page.locator(".forest-picture").evaluate_all("all => all.map(e => e.classList.contains('clear'))")
    assert filled == [True, False, False]


def test_set_measure_and_pairs_are_chosen(show_comparison: ShowComparison) -> None:
    page = show_comparison(comparison())
    rows = page.locator("#forest [role=row]:not(.forest-head)")
    page.select_option("#measure", "exact match")
    assert rows.count() == 1
    assert "+0.0300 [+0.0100, +0.0500]" in rows.inner_text()
    page.select_option("#set", "unseen")
    assert page.locator("#measure option").all_inner_texts() == ["BLEU"]
    assert "−7.50 [−9.00, −6.00]" in rows.inner_text()
    page.select_option("#set", "test")
    page.select_option("#pairs", "rotary")
    assert rows.count() == 2


def test_curves_are_read_by_mouse_for_every_metric_and_axis(show_comparison: ShowComparison) -> None:
    page = show_comparison(comparison())
    check_readings(page, of("val/loss", "step"), -1)
    for place in (0, 2, 5):
        hover_chart(page, (STEPS[place] - STEPS[0]) / (STEPS[-1] - STEPS[0]))
        assert f"At step {STEPS[place]}:" in page.locator("#curve-place").text_content()
        check_readings(page, of("val/loss", "step"), place)
    page.select_option("#metric", "val/token_accuracy")
    check_readings(page, of("val/token_accuracy", "step"), -1)
    page.check("#by-seconds")
    given = of("val/token_accuracy", "seconds")
    check_readings(page, given, -1)
    assert page.locator(".axis-title").inner_text() == "time of training in min"
    # The groups have places of their own: each is read at its last one by then.
    hover_chart(page, 0.5)
    everywhere = sorted({x for one in given.values() for x in one.x})
    middle = (everywhere[0] + everywhere[-1]) / 2
    near = min(everywhere, key=lambda x: abs(x - middle))
    for group, (mean, _) in readings(page).items():
        at = max(index for index, x in enumerate(given[group].x) if x <= near)
        assert float(mean) == pytest.approx(given[group].mean[at], abs=0.00051)
    page.check("#by-flops")
    check_readings(page, of("val/token_accuracy", "flops"), -1)
    assert page.locator(".axis-title").inner_text() == "work of training in TFLOP"


def test_lines_and_bands_are_drawn_where_the_numbers_are(show_comparison: ShowComparison) -> None:
    one = dataclasses.replace(
        curve("a"), mean=[6, 5, np.nan, 3, 2, 2, 1], low=[5.5, 4.5, 1, 2.5, 1, 1, 0], high=[7] * 7
    )
    page = show_comparison(comparison(curves=[one, dataclasses.replace(curve("b"), low=None, high=None)]))
    d = page.locator("#chart path.group-line[data-group='0']").get_attribute("d")
    places = np.array([[float(part) for part in pair] for pair in re.findall(r"[ML]([\d.]+) ([\d.]+)", d)])
    assert d.count("M") == 2, "the line breaks where there is no number"
    kept = [0, 1, 3, 4, 5, 6]
    for axis, values in enumerate((np.array(one.x)[kept], np.array(one.mean)[kept])):
        slope, offset = np.polyfit(values, places[:, axis], 1)
        assert places[:, axis] == pytest.approx(slope * values + offset, abs=0.11)
    slope, offset = np.polyfit(np.array(one.mean)[kept], places[:, 1], 1)
    band = page.locator("#chart path.band[data-group='0']").get_attribute("d")
    edge = np.array([float(y) for _, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", band)])
    assert edge == pytest.approx([slope * y + offset for y in [*one.high, *one.low[::-1]]], abs=0.2)
    assert page.locator("#chart path.band[data-group='1']").get_attribute("d") == ""
    assert readings(page)["b"][1] == "–"
    assert "A group without a band has one run." in page.locator("#curve-note").inner_text()


def test_groups_are_switched_off_and_on(show_comparison: ShowComparison) -> None:
    page = show_comparison(comparison())
    lines = page.locator("#chart path.group-line")
    labels = page.locator("#chart .line-name text")
    assert sorted(labels.all_inner_texts()) == ["1 multi_head", "2 multi_query", "3 rotary"]
    page.uncheck("#shows-1")
    assert (lines.count(), sorted(labels.all_inner_texts())) == (2, ["1 multi_head", "3 rotary"])
    page.check("#by-flops")
    assert lines.count() == 2, "what is off stays off"
    page.click("#no-groups")
    assert page.locator("#chart path.group-line:not([d=''])").count() == 0
    page.click("#all-groups")
    assert lines.count() == 3


def test_twelve_groups_are_told_apart_by_colour_and_dash_and_their_names_do_not_overlap(
    show_comparison: ShowComparison,
) -> None:
    names = [f"variant_{place}" for place in range(12)]
    page = show_comparison(comparison(curves=[curve(name, seed=place) for place, name in enumerate(names)]))
    looks = page.locator("#chart path.group-line").evaluate_all(
        "all => all.map(e => getComputedStyle(e)).map(s => `${s.stroke} ${s.strokeDasharray}`)"
    )
    assert len(set(looks)) == 12
    boxes = [label.bounding_box() for label in page.locator("#chart .line-name text").all()]
    tops = sorted(box["y"] for box in boxes)
    assert len(tops) == 12
    assert np.diff(tops).min() > 14
    right = page.locator("#chart").bounding_box()
    assert all(box["x"] + box["width"] <= right["x"] + right["width"] for box in boxes)


def shown_map(page: Any, group: int) -> Any:
    return page.locator(f"#group{group}-map")


def weights_of(group: int, site: str, layer: int, sentence: int = 0) -> np.ndarray:
    found: np.ndarray = all_patterns()[group - 1].run.sentences[sentence].patterns[site, layer].weights[-1]
    return found


def point_at(page: Any, group: int, row: int, column: int, rows: int = 7, columns: int = 5) -> None:
    field = shown_map(page, group)
    field.scroll_into_view_if_needed()
    box = field.bounding_box()
    page.mouse.move(box["x"] + (column + 0.5) * box["width"] / columns, box["y"] + (row + 0.5) * box["height"] / rows)


def value(page: Any, group: int) -> float:
    return float(page.locator(f"#group{group}-readout .value").inner_text())


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
    page.select_option("#head", "2")
    page.select_option("#layer", "1")
    assert page.locator("#group2-notice").inner_text() == "No layer 2 here: it has layer 1 only."
    assert page.locator("#group3-notice").inner_text() == "No head 3 here: layer 2 has heads 1 to 2."
    assert shown_map(page, 2).is_hidden()
    point_at(page, 1, 6, 4)
    assert value(page, 1) == pytest.approx(weights_of(1, "cross", 1)[2, 6, 4], abs=0.00052)
    page.select_option("#sentence", index=1)
    page.select_option("#site", "encoder_self")
    page.select_option("#layer", "0")
    page.select_option("#head", "0")
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
    page.select_option("#head", "0")
    page.select_option("#layer", "0")
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


def test_the_keyboard_is_enough(show_comparison: ShowComparison) -> None:
    page = show_comparison(comparison())
    tab_to(page, "#theme")
    page.keyboard.press("Space")
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    tab_to(page, "#contents a")
    tab_to(page, "#results .sort")
    tab_to(page, "#set")
    tab_to(page, "#measure")
    page.keyboard.press("ArrowDown")
    assert page.locator("#measure").input_value() == "exact match"
    tab_to(page, "#metric")
    tab_to(page, "#by-step")
    tab_to(page, "#chart")
    page.keyboard.press("Home")
    check_readings(page, of("val/loss", "step"), 0)
    for key in ("ArrowRight", "ArrowRight", "PageUp", "ArrowLeft"):
        page.keyboard.press(key)
    check_readings(page, of("val/loss", "step"), 2)
    assert "multi_query" in page.locator("#curve-place .unseen").text_content()
    tab_to(page, "#shows-0")
    page.keyboard.press("Space")
    assert page.locator("#chart path.group-line").count() == 2
    tab_to(page, "#sentence")
    tab_to(page, "#group1-map")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
    assert value(page, 1) == pytest.approx(weights_of(1, "cross", 1)[1, 2, 1], abs=0.00052)
    tab_to(page, "#group2-map")


def test_hostile_texts_are_shown_as_they_are(show_comparison: ShowComparison) -> None:
    table = dataclasses.replace(TABLE, title=HOSTILE, rows=[[HOSTILE, 1, 2, HOSTILE, 3], ["other", 1, 2, "", 3]])
    page = show_comparison(
        comparison(
            title=HOSTILE,
            warnings=[HOSTILE],
            tables=[table],
            curves=[curve(HOSTILE, HOSTILE)],
            differences=[difference(HOSTILE, "other", HOSTILE, HOSTILE, verdict=HOSTILE)],
            patterns=[patterns(HOSTILE)],
            notes=[HOSTILE],
        )
    )
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    for place in (
        "#title",
        "#warnings li",
        "#results h2 bdi",
        "#results .group-name >> nth=0",
        "#forest .verdict",
        "#set option",
        "#forest .group-name >> nth=0",
        "#readings .group-name",
        "#group1 .group-name",
        "#notes li",
    ):
        assert page.locator(place).text_content() == HOSTILE


@pytest.mark.parametrize("width", [390, 768, 1440])
def test_the_page_itself_never_scrolls_sideways(show_comparison: ShowComparison, width: int) -> None:
    names = [f"{place}_a_very_long_name_without_any_space" for place in range(12)]
    page = show_comparison(
        comparison(
            curves=[curve(name, seed=place) for place, name in enumerate(names)],
            differences=[difference(names[0], name, verdict="no difference shown " * 3) for name in names[1:]],
            patterns=[patterns(name) for name in names],
        ),
        width=width,
    )
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    chart = page.locator("#chart svg").bounding_box()
    assert chart["x"] + chart["width"] <= width
    for label in page.locator("#chart text").all():
        box = label.bounding_box()
        assert 0 <= box["x"]
        assert box["x"] + box["width"] <= width


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_the_paper(show_comparison: ShowComparison, theme: str) -> None:
    names = [f"variant_{place}" for place in range(6)]
    page = show_comparison(comparison(curves=[curve(name) for name in names]), theme=theme)
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    texts = (
        "p, h1, h2, h3, li, a, label, legend, button, select, td, th, .swatch, .verdict, .against, .cell-name, .ended"
    )
    colours = page.locator(texts).evaluate_all("all => [...new Set(all.map(e => getComputedStyle(e).color))]")
    fills = page.locator("#chart text").evaluate_all("all => [...new Set(all.map(e => getComputedStyle(e).fill))]")
    assert len(fills) >= 7
    for colour in [*colours, *fills]:
        if colour != paper:
            assert contrast(colour, paper) >= 4.5, colour
    box = page.locator("#warnings").evaluate("e => getComputedStyle(e).backgroundColor")
    for part in ("#warnings h2", "#warnings li"):
        assert contrast(page.locator(part).first.evaluate("e => getComputedStyle(e).color"), box) >= 4.5


def test_what_is_not_there_takes_no_room(show_comparison: ShowComparison) -> None:
    page = show_comparison(comparison(tables=[TABLE], curves=[], differences=[], patterns=[], notes=[], warnings=[]))
    for part in ("warnings", "differences", "curves", "tables", "patterns", "notes", "contents"):
        assert page.locator(f"#{part}").is_hidden()
    assert page.locator("#results td").first.inner_text() == GROUPS[0]
    bare = [dataclasses.replace(one, run=dataclasses.replace(one.run, sentences=[])) for one in all_patterns()[:1]]
    page = show_comparison(comparison(patterns=[*bare, *all_patterns()[1:]]))
    assert page.locator("#group1-notice").inner_text() == "No patterns of this sentence were recorded."


def test_on_paper_the_page_is_light_and_nothing_is_cut_off(show_comparison: ShowComparison) -> None:
    page = show_comparison(comparison(), theme="dark", width=760)
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    ink = page.locator("#title").evaluate("e => getComputedStyle(e).color")
    assert contrast(ink, "rgb(255, 255, 255)") > 10
    assert page.locator("#theme").is_hidden()
    assert page.evaluate("document.documentElement.scrollWidth") <= 760
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    page.emulate_media(media="screen", color_scheme="dark")
    assert contrast(page.locator("#title").evaluate("e => getComputedStyle(e).color"), "rgb(0, 0, 0)") > 10
