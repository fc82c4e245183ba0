"""The page of a comparison in a browser: warnings, tables, differences, keyboard, phone, themes, paper."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from colour_contrast import contrast
from comparison_reading import check_readings, of, value, weights_of
from comparison_samples import GROUPS, TABLE, all_patterns, comparison, curve, difference, patterns
from html_document import HOSTILE
from offline_browser import tab_to

from attnframe.patterns.page import PageTable

pytestmark = pytest.mark.slow
ShowComparison = Callable[..., Any]


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


def test_a_short_name_is_not_broken_on_a_phone(show_comparison: ShowComparison) -> None:
    page = show_comparison(comparison(), width=390)
    heights = [name.bounding_box()["height"] for name in page.locator("#results .group-name").all()]
    assert max(heights) < 30


def test_a_long_name_in_a_wide_table_is_no_column_of_letters_on_a_phone(show_comparison: ShowComparison) -> None:
    rows = [[GROUPS[0], *["23,433 ± 28,268"] * 6]]
    wide = PageTable("Cost", ["group", *(f"measure {place}" for place in range(6))], rows)
    page = show_comparison(comparison(tables=[TABLE, wide]), width=390)
    name = page.locator("#tables td .group-name")
    assert name.count() == 1
    assert name.bounding_box()["height"] < 30
    # Numbers stay on their line too: the table scrolls.
    assert all(cell.bounding_box()["height"] < 40 for cell in page.locator("#tables td").all())


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
        assert box["x"] >= 0
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
