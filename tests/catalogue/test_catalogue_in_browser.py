"""The catalogue in a real browser, with the network cut."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from catalogue_samples import SIZES, catalogue, entry, maps
from colour_contrast import contrast
from html_document import HOSTILE
from offline_browser import tab_to

from attnframe.catalogue import SENTENCE, Catalogue, Cost, catalogue_html

pytestmark = pytest.mark.slow
Show = Callable[..., Any]


@pytest.fixture
def show(open_html: Callable[..., Any]) -> Show:
    """`show(catalogue, width=..., theme=...)` opens its page."""

    def show(shown: Catalogue, **options: Any) -> Any:
        page = open_html(catalogue_html(shown), **options)
        page.locator("#contents table").wait_for()
        return page

    return show


def costs(parameters: int, flops: float, cache: int | None) -> dict[str, Cost]:
    return dict.fromkeys(("encoder_self", "decoder_self"), Cost(parameters, flops, cache))


ENTRIES = (
    entry("multi_head", costs=costs(8000, 1234567, 88)),
    entry("b_cheap", costs=costs(4000, 999.5, None), conformance="failed: causal, padding", is_plugin=True),
    entry("c_dear", costs=costs(12000, 2000000, 22), conformance="not checked"),
)


def test_each_variant_has_its_section_with_its_words_and_numbers(show: Show) -> None:
    page = show(catalogue(*ENTRIES, notices=("plugins/x.py is left out",)))
    assert page.locator(".entry h2").all_inner_texts() == ["multi_head", "b_cheap", "c_dear"]
    assert page.locator("#notices").inner_text() == "plugins/x.py is left out"
    assert page.locator("#counted").inner_text().startswith("One layer, d_model 44, 2 heads, 13 tokens, with biases.")
    section = page.locator("#variant-b_cheap")
    assert section.locator(".formula").text_content() == "softmax(Qh·Khᵀ/√dk)·V with rank."
    assert section.locator(".formula sub").all_inner_texts() == ["h", "h", "k"]
    assert section.locator(".badge").inner_text() == "plugin"
    assert section.locator(".verdict").inner_text() == "✗ failed: causal, padding"
    assert section.locator(".options td").all_inner_texts() == ["rank", "int | None", "null"]
    assert section.locator(".text a").get_attribute("href") == "https://example.org/paper"
    rows = [row.split("\t") for row in section.locator(".costs tr").all_inner_texts()]
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["parameters", "4,000", "0.50×"],
        ["FLOPs per token", "999.5", "0.00×"],
        ["cache per token", "recomputed", ""],
    ]


def test_indices_stand_below_the_line(show: Show) -> None:
    page = show(
        catalogue(entry("multi_head", formula="W_UK_h·Q'_h + Σ_{l≤t} f_hl of low_rank_v, `a_b` and Concat_h(x·W_θ)"))
    )
    formula = page.locator(".entry .formula")
    assert formula.locator("sub").all_inner_texts() == ["UK, h", "h", "l≤t", "hl", "h", "θ"]
    assert formula.text_content() == "WUK, h·Q'h + Σl≤t fhl of low_rank_v, a_b and Concath(x·Wθ)"


def test_the_table_of_all_leads_to_each_and_is_sorted(show: Show) -> None:
    page = show(catalogue(*ENTRIES))

    def names() -> list[str]:
        found: list[str] = page.locator("#contents tbody td:first-child").all_inner_texts()
        return found

    assert names() == ["multi_head", "b_cheap", "c_dear"]
    for column, expected in (
        ("parameters", ["c_dear", "multi_head", "b_cheap"]),
        ("FLOPs per token", ["c_dear", "multi_head", "b_cheap"]),
        ("cache per token", ["multi_head", "c_dear", "b_cheap"]),
        ("variant", ["b_cheap", "c_dear", "multi_head"]),
    ):
        page.locator("#contents th", has_text=column).locator("button").click()
        assert names() == expected, column
    assert page.locator("#contents th", has_text="maps").locator("button").count() == 0
    page.locator("#contents a", has_text="c_dear").click()
    assert page.url.endswith("#variant-c_dear")
    tab_to(page, "#theme")


def test_an_address_with_a_variant_opens_there(show: Show) -> None:
    page = show(catalogue(*ENTRIES), hash="#variant-c_dear")
    page.wait_for_function("scrollY > 0")
    assert 0 <= page.locator("#variant-c_dear").bounding_box()["y"] < 900


def fill(page: Any, row: int, column: int, head: int = 0) -> str:
    """The colour on the screen in the middle of a cell of the first picture of the first variant."""
    drawing = page.locator(".entry").first.locator(".picture").first.locator("svg.head").nth(head)
    found: str = drawing.evaluate(
        """(svg, [row, column]) => {
          const point = svg.createSVGPoint();
          [point.x, point.y] = [58 + 13 * column + 6, 54 + 13 * row + 6];
          const hit = [...svg.querySelectorAll("path")].find((path) => path.isPointInFill(point));
          return hit ? getComputedStyle(hit).fill : "";
        }""",
        [row, column],
    )
    return found


def test_a_map_is_as_dark_as_its_weights_and_the_pointer_reads_them(show: Show) -> None:
    shown = maps(3)
    page = show(catalogue(entry("multi_head", maps={"unmasked": shown, "causal": "no causal form"})))
    picture = page.locator(".picture").first
    assert picture.locator("svg.head").count() == 3
    labels = picture.locator("svg.head").nth(1).locator(".row-label").all_text_contents()
    assert tuple(labels) == SENTENCE
    assert page.locator(".picture").nth(1).locator(".refusal").inner_text() == "no causal form"

    order = np.argsort(shown.weights[1], axis=None)
    cells = [tuple(map(int, np.unravel_index(place, shown.weights[1].shape))) for place in order[:: len(order) // 5]]
    on_light = [contrast("rgb(255, 255, 255)", fill(page, *cell, head=1)) for cell in cells]
    assert on_light == sorted(on_light)
    assert on_light[-1] > on_light[0]

    page.locator("#theme").click()
    on_dark = [contrast("rgb(0, 0, 0)", fill(page, *cell, head=1)) for cell in cells]
    assert on_dark == sorted(on_dark)
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"

    row, column = 4, 2
    drawing = picture.locator("svg.head").nth(1)
    drawing.scroll_into_view_if_needed()
    box = drawing.bounding_box()
    scale = box["width"] / drawing.evaluate("svg => svg.viewBox.baseVal.width")
    page.mouse.move(box["x"] + scale * (58 + 13 * column + 6), box["y"] + scale * (54 + 13 * row + 6))
    said = picture.locator(".reading").inner_text()
    assert said.startswith(f"head 2: “{SENTENCE[row]}” (5) looks at “{SENTENCE[column]}” (3): ")
    assert float(said.rsplit(" ", 1)[1]) == pytest.approx(shown.weights[1, row, column], abs=6e-4)
    page.mouse.move(0, 0)
    assert picture.locator(".reading").inner_text() == ""


def test_it_is_printed_by_day(show: Show) -> None:
    page = show(catalogue(), theme="dark")
    by_night = fill(page, 1, 1)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    by_day = fill(page, 1, 1)
    assert contrast("rgb(0, 0, 0)", by_day) > 10 > contrast("rgb(0, 0, 0)", by_night)
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert fill(page, 1, 1) == by_night


def test_weights_below_zero_are_of_another_colour_and_have_a_key(show: Show) -> None:
    shown = maps(3, kind="signed", low=-1)
    page = show(catalogue(entry("multi_head", maps={"unmasked": shown, "causal": shown}), entry("plain")))
    lowest, highest = (np.unravel_index(at(shown.weights[0]), shown.weights[0].shape) for at in (np.argmin, np.argmax))
    red, _, blue = (int(part) for part in fill(page, *map(int, lowest))[4:-1].split(","))
    assert red > blue
    red, _, blue = (int(part) for part in fill(page, *map(int, highest))[4:-1].split(","))
    assert blue > red
    most = np.abs(shown.weights).max()
    key = page.locator("#variant-multi_head .key").inner_text()
    assert float(key.split()[0]) == pytest.approx(-most, abs=1e-3)
    assert "weights may be negative" in key
    assert page.locator("#variant-plain .key").count() == 0


def test_what_cannot_be_counted_or_drawn_says_so(show: Show) -> None:
    none = entry(
        "none",
        costs={"encoder_self": "encoder_self: it is too wide", "decoder_self": "decoder_self: it is too wide"},
        maps={"unmasked": "it fails", "causal": "it fails"},
        options=[],
        paper=None,
        text=[],
        formula="",
        backends=[],
    )
    part = entry("part", costs={"encoder_self": Cost(7000, 10, None), "decoder_self": "decoder_self: no causal form"})
    page = show(catalogue(entry("multi_head"), none, part))
    assert page.locator("#variant-none .costs").inner_text() == "it is too wide"
    assert page.locator("#variant-none .picture .refusal").all_inner_texts() == ["it fails", "it fails"]
    assert page.locator("#variant-part .costs .refusal").inner_text() == "decoder: no causal form"
    cells = page.locator("#contents tr", has_text="none").locator("td").all_inner_texts()
    assert cells[3:6] == ["–", "–", "–"]


def test_hostile_texts_are_texts(show: Show) -> None:
    page = show(catalogue(entry("multi_head", formula=HOSTILE, text=[HOSTILE], maps={"unmasked": HOSTILE})))
    assert page.title() == "Catalogue of attention"
    assert page.locator("img").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_can_be_read_by_day_and_by_night_and_on_a_phone(show: Show, theme: str) -> None:
    page = show(catalogue(*ENTRIES), theme=theme, width=390)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    for place in (".formula", ".text", ".verdict.passed", ".verdict.failed", ".verdict.not-checked", ".badge", "dt"):
        ink = page.locator(place).first.evaluate("node => getComputedStyle(node).color")
        assert contrast(ink, paper) >= 4.5, place


def test_another_width_in_the_encoder_is_said(show: Show) -> None:
    sizes = dataclasses.replace(SIZES, encoder_d_model=22)
    different = entry("multi_head", costs={"encoder_self": Cost(10, 3, 0), "decoder_self": Cost(20, 5, 88)})
    page = show(dataclasses.replace(catalogue(different), sizes=sizes))
    assert "d_model 44 (22 in the encoder)" in page.locator("#counted").inner_text()
    names = page.locator("#variant-multi_head .costs th").all_inner_texts()
    assert names == [
        "parameters, encoder",
        "parameters, decoder",
        "FLOPs per token, encoder",
        "FLOPs per token, decoder",
        "cache per token",
    ]
