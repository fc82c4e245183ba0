"""The page in a browser where it is hard: two runs, no mouse, small screens, odd texts, nothing to show."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from colour_contrast import contrast, luminance
from html_document import HOSTILE
from offline_browser import tab_to
from page_reading import array, hover, pixels, set_time
from page_samples import STEPS, pattern, run, sentence

from attnframe.attention import PatternKind
from attnframe.data.schema import Alignment
from attnframe.patterns.page import PagePattern, PageRun, PageSentence, PageTable

pytestmark = pytest.mark.slow
Show = Callable[..., Any]


def one_sentence(words: Sequence[str], *, heads: int = 3) -> PageRun:
    """A run with one sentence of `words`, at cross and among themselves."""
    maps = {(site, 0): pattern(len(words), len(words), times=2, heads=heads) for site in ("cross", "encoder_self")}
    shown = PageSentence(
        " ".join(words), " ".join(words), dict.fromkeys(("cross", "encoder_self"), (words, words)), maps
    )
    return PageRun("one", [1, 2], [shown], traces={"val/loss": [2.0, 1.0]})


def test_two_runs_side_by_side(show: Show) -> None:
    first = run("first")
    other = run(
        "other",
        steps=(300, 500, 600, 1000, 1200),
        seed=70,
        importance=None,
        sentences=[sentence(seed=70), sentence("only here", "seulement ici", contributions=False)],
    )
    page = show(first, other)
    options = page.locator("#sentence option").all_inner_texts()
    assert options[1:] == ["2. a second one (only in run A)", "3. only here (only in run B)"]
    left, right = (page.locator(f"#{pane}").bounding_box() for pane in ("run1", "run2"))
    assert right["x"] > left["x"] + left["width"]
    assert page.locator("#run1-map").bounding_box()["y"] == page.locator("#run2-map").bounding_box()["y"]
    page.click("#run1-heads [data-layer='0'][data-head='1']")
    page.click("#run2-heads [data-layer='1'][data-head='2']")
    # Of 100 300 500 600 900 1000 1100 1200.
    for place, time_a, time_b, notice_a, notice_b in [
        (1, 1, 0, "", ""),
        (3, 2, 2, "Run A has no maps of step 600: shown are those of step 500, the nearest earlier ones.", ""),
        (4, 3, 2, "", "Run B has no maps of step 900: shown are those of step 600, the nearest earlier ones."),
        (0, 0, 0, "", "Run B has no maps as early as step 100: shown are those of step 300, its first."),
    ]:
        set_time(page, place)
        assert float(hover(page, 2, 1)) == pytest.approx(array(first, 0, "cross", 0)[time_a, 1, 2, 1], abs=6e-4)
        assert float(hover(page, 2, 1, "run2")) == pytest.approx(array(other, 0, "cross", 1)[time_b, 2, 2, 1], abs=6e-4)
        assert page.locator("#run1-notice").text_content() == notice_a
        assert page.locator("#run2-notice").text_content() == notice_b
    assert page.locator("#head-traces h2").inner_text() == "cross, A: layer 1, head 2; B: layer 2, head 3"
    page.select_option("#sentence", index=2)
    assert page.locator("#run1-notice").inner_text() == "Run A has no patterns of this sentence."
    assert not page.locator("#run1-map").is_visible()
    assert page.locator("#run2-map").is_visible()
    assert "run B" in page.locator("#importance-reason").inner_text()


def test_the_keyboard_is_enough(show: Show) -> None:
    shown = run()
    page = show(shown, hash="#layer=1&head=1")

    tab_to(page, "#theme")
    page.keyboard.press("Space")
    assert page.locator("#theme").get_attribute("aria-pressed") == "true"
    tab_to(page, "#sentence")
    page.keyboard.press("ArrowDown")
    tab_to(page, "#site")
    tab_to(page, "#weights")
    page.keyboard.press("ArrowRight")
    assert page.locator("#contributions").is_checked()
    tab_to(page, "#linear")
    tab_to(page, "#gold")
    page.keyboard.press("Space")
    assert not page.locator("#gold").is_checked()
    tab_to(page, "#time")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    tab_to(page, "#run1-heads button")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    tab_to(page, "#run1-map")
    for key in ("ArrowDown", "ArrowDown", "ArrowRight", "End", "ArrowLeft", "ArrowUp"):
        page.keyboard.press(key)
    norms = array(shown, 1, "cross", 1, "contributions")
    read = float(page.locator("#run1-readout .value").inner_text())
    assert read == pytest.approx(norms[2, 1, 1, 3], abs=6e-4)
    page.keyboard.press("Space")
    page.locator(f"#time[aria-valuetext='step {STEPS[3]}']").wait_for()
    page.keyboard.press("Space")
    tab_to(page, "#run1-lines .queries button")
    page.keyboard.press("ArrowDown")
    assert page.locator("#run1-lines .queries .held").inner_text() == "chien"
    tab_to(page, ".table-box")


def test_hostile_texts_are_shown_as_they_are(show: Show) -> None:
    maps = pattern(1, 2, times=1, heads=1)
    shown = PageSentence(HOSTILE, HOSTILE, {HOSTILE: ([HOSTILE], [HOSTILE, "b"])}, {(HOSTILE, 0): maps})
    table = PageTable(HOSTILE, [HOSTILE], [[HOSTILE]], HOSTILE)
    one = PageRun(HOSTILE, [1], [shown], HOSTILE, {HOSTILE: [1.0]}, {(HOSTILE, 0, 0): {HOSTILE: [1.0]}}, [table])
    page = show(one, PageRun("second", [1], []))
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 2
    assert "attention patterns" in page.title()
    for place in (
        "#run1 h2 bdi",
        "#run1 .query-labels span",
        ".table td",
        ".table h2 bdi",
        "#run1-lines .keys bdi >> nth=0",
    ):
        assert page.locator(place).text_content() == HOSTILE
    assert float(hover(page, 0, 0)) == pytest.approx(maps.weights[0, 0, 0, 0], abs=6e-4)


def test_texts_from_right_to_left_are_set_so(show: Show) -> None:
    page = show(one_sentence(["שלום", "world", "مرحبا", "👩‍👩‍👧", "123"]))
    for side in ("#run1 .query-labels bdi", "#run1 .key-labels bdi", "#run1-lines .queries bdi"):
        found = page.locator(side).evaluate_all("all => all.map(b => getComputedStyle(b).direction)")
        assert found == ["rtl", "ltr", "rtl", "ltr", "ltr"]
    assert page.locator("#run1-lines .keys bdi").all_inner_texts() == ["שלום", "world", "مرحبا", "👩‍👩‍👧", "123"]


@pytest.mark.parametrize("width", [390, 1440])
def test_two_hundred_tokens_scroll_in_their_own_box(show: Show, width: int) -> None:
    words = [f"token{place}" for place in range(200)]
    shown = one_sentence(words)
    page = show(shown, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.locator("#run1-map").focus()
    page.keyboard.press("End")
    for _ in range(3):
        page.keyboard.press("ArrowDown")
    read = float(page.locator("#run1-readout .value").inner_text())
    assert read == pytest.approx(array(shown, 0, "cross", 0)[-1, 0, 3, 199], abs=6e-4)
    label, box = (page.locator(f"#run1 {part}").bounding_box() for part in (".key-labels .current", ".map-box"))
    assert box["x"] <= label["x"] <= box["x"] + box["width"], "the cell that is read is in sight"
    seconds = page.evaluate(
        "() => { const start = performance.now(); const time = document.getElementById('time');"
        " time.value = 0; time.dispatchEvent(new Event('input')); return (performance.now() - start) / 1000; }"
    )
    assert seconds < 1


@pytest.mark.parametrize("width", [360, 390, 768, 1440])
def test_the_page_itself_never_scrolls_sideways(show: Show, width: int) -> None:
    wide = [PageTable("wide", [f"column {i}" for i in range(30)], [[float(i) for i in range(30)]])]
    name = "a_very_long_name_without_any_space_" * 4
    for runs in ([run(name, tables=wide)], [run(name), run("other")], [one_sentence(["w" * 70, "v"] * 9, heads=16)]):
        page = show(*runs, width=width)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.check("#log")
        page.select_option("#site", "encoder_self")
        assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_cells_that_are_not_finite_are_shown_as_such(show: Show) -> None:
    weights = pattern(7, 5).weights.copy()
    weights[-1, 0, 1, 2], weights[-1, 0, 3, 4] = np.nan, np.inf
    words = {"cross": (list("abcdefg"), list("uvwxy"))}
    one = PageSentence("s", "t", words, {("cross", 0): PagePattern(PatternKind.PROBABILITY, weights)})
    page = show(run(sentences=[one], traces={"val/loss": [float("nan")] * 5, "val/aer": [1, float("inf"), None, 2, 3]}))
    assert hover(page, 1, 2) == "not finite"
    assert hover(page, 3, 4) == "not finite"
    clear = (pixels(page)[:, 3] == 0).reshape(7, 5)
    assert np.argwhere(clear).tolist() == [[1, 2], [3, 4]]
    assert "Hatched cells are not finite" in page.locator("#run1-legend").inner_text()
    assert page.locator("[data-trace='val/loss']").count() == 0
    assert page.locator("[data-trace='val/aer'] .chart-value").inner_text() == "3"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_stands_out_from_the_paper(show: Show, theme: str) -> None:
    gold = Alignment(frozenset({(0, 0)}), frozenset({(1, 1)}))
    one = sentence()
    page = show(
        run(sentences=[PageSentence(one.source, one.target, one.labels, one.patterns, gold)]), run("b"), theme=theme
    )
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    texts = "p, h1, h2, h3, label, legend, button, select, td, th, figcaption span, output, .tick, .key-labels span"
    colours = page.locator(texts).evaluate_all("all => [...new Set(all.map(e => getComputedStyle(e).color))]")
    assert len(colours) > 2
    for colour in colours:
        if colour != paper:
            assert contrast(colour, paper) >= 4.5, colour


def test_the_theme_follows_the_system_until_it_is_chosen(show: Show) -> None:
    page = show(run(), theme="dark")
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    first = pixels(page)
    page.click("#theme")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert contrast("rgb(0, 0, 0)", light) > 15 > 2 > contrast("rgb(0, 0, 0)", dark)
    assert (pixels(page) != first).any()
    page.reload()
    page.locator("#run1-map").wait_for()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == dark, "it remembers nothing"


def test_a_run_without_patterns_shows_what_else_it_has(show: Show) -> None:
    page = show(run(sentences=[], head_traces={}, importance=None))
    assert page.locator("#empty").is_visible()
    assert not page.locator("#choices").is_visible()
    assert page.locator("[data-trace='val/loss'] .chart-value").inner_text() == "0.125"
    assert page.locator(".table td").first.inner_text() == "test"
    assert page.locator("#trouble").is_hidden()


def without(whole: PageSentence, *places: tuple[str, int]) -> PageSentence:
    """The sentence without the patterns of some places; its labels and links stay."""
    kept = {place: maps for place, maps in whole.patterns.items() if place not in places}
    return dataclasses.replace(whole, patterns=kept)


def test_a_site_with_the_patterns_of_one_layer_only(show: Show) -> None:
    shown = run(sentences=[without(sentence(), ("cross", 0))])
    page = show(shown, hash="#site=cross&layer=1&head=2")
    assert page.locator("#run1-layer option").all_inner_texts() == ["2"]
    assert page.locator("#run1 .map-part h3").inner_text() == "cross, layer 2, head 2"
    assert page.locator("#run1-heads button").count() == 3
    assert page.locator("#run1-heads .head-name").all_inner_texts() == ["L2 H1", "L2 H2", "L2 H3"]
    assert float(hover(page, 2, 1)) == pytest.approx(array(shown, 0, "cross", 1)[-1, 1, 2, 1], abs=6e-4)
    page.select_option("#site", "encoder_self")
    assert page.locator("#run1-layer option").all_inner_texts() == ["1", "2"]


def test_a_site_without_patterns_is_no_choice(show: Show) -> None:
    bare = without(sentence(), ("cross", 0), ("cross", 1))
    page = show(run(sentences=[bare], subtitle="no patterns at cross layers 1 and 2: a reason"))
    assert page.locator("#site option").all_inner_texts() == ["encoder_self", "decoder_self"]
    assert page.locator("#subtitle").inner_text() == "no patterns at cross layers 1 and 2: a reason"
    page.select_option("#site", "decoder_self")
    assert page.locator("#run1-map").is_visible()


def test_beside_a_run_that_has_them(show: Show) -> None:
    bare = without(sentence(), ("cross", 0), ("cross", 1))
    page = show(run("a", sentences=[bare]), run("b", sentences=[sentence()]))
    assert page.locator("#site").input_value() == "cross"
    assert page.locator("#run1-notice").inner_text() == "Run A has no patterns at cross on this sentence."
    assert not page.locator("#run1-map").is_visible()
    assert page.locator("#run2-map").is_visible()
    page.select_option("#site", "encoder_self")
    assert page.locator("#run1-map").is_visible()


def test_a_run_with_sentences_but_no_patterns_shows_what_else_it_has(show: Show) -> None:
    bare = dataclasses.replace(sentence(), patterns={})
    page = show(run(sentences=[bare], subtitle="no patterns: a reason", head_traces={}, importance=None))
    assert page.locator("#empty").is_visible()
    assert not page.locator("#choices").is_visible()
    assert page.locator("#subtitle").inner_text() == "no patterns: a reason"
    assert page.locator("[data-trace='val/loss'] .chart-value").inner_text() == "0.125"
    assert page.locator("#trouble").is_hidden()
    page = show(run("a", sentences=[bare]), run("b", sentences=[sentence()]))
    assert page.locator("#run2-map").is_visible()
    assert page.locator("#run1-notice").is_visible()


def test_one_step_leaves_nothing_to_play(show: Show) -> None:
    maps = {("cross", 0): pattern(2, 3, times=1)}
    page = show(PageRun("r", [7], [PageSentence("s", "t", {"cross": (["a", "b"], ["c", "d", "e"])}, maps)]))
    assert page.locator("#time").is_disabled()
    assert page.locator("#play").is_disabled()
    page.keyboard.press("Space")
    assert page.locator("#step").inner_text() == "step 7 1 of 1"


def test_table_cells_are_written_by_their_kind(show: Show) -> None:
    table = PageTable("T", ["text", "number"], [["a", 1234.56789], ["b", None], ["c", float("nan")], ["d", 12345678]])
    page = show(run(tables=[table]))
    assert page.locator(".table td").all_inner_texts() == ["a", "1235", "b", "–", "c", "NaN", "d", "12345678"]
    assert page.locator(".table td.number").count() == 4


@pytest.mark.parametrize("width", [390, 1440])
def test_a_table_shows_all_its_rows_and_that_it_has_more_columns(show: Show, width: int) -> None:
    rows = [[float(i) for i in range(40)] for _ in range(60)]
    page = show(run(tables=[PageTable("wide", [f"column {i}" for i in range(40)], rows)]), width=width)
    box = page.locator(".table-box")
    assert box.evaluate("e => e.clientHeight >= e.querySelector('table').offsetHeight")
    assert box.evaluate("e => e.scrollWidth > e.clientWidth")

    def edge() -> np.ndarray:
        """Lightness along the empty part of a row, at the right end of what is in sight."""
        right = box.bounding_box()["x"] + box.bounding_box()["width"]
        picture = page.screenshot(clip={"x": right - 60, "y": 300, "width": 60, "height": 1})
        return luminance(decoded_png(page, picture))

    box.evaluate("e => scrollTo(0, e.getBoundingClientRect().y + scrollY - 200)")
    assert edge()[-2] < 0.6 < edge().max(), "there is more to the right"
    box.evaluate("e => e.scrollLeft = e.scrollWidth")
    assert edge()[-2] > 0.9, "there is no more"


def decoded_png(page: Any, picture: bytes) -> np.ndarray:
    """[cells, 4] colours of a picture, 0 to 255; the browser reads it."""
    data = page.context.new_page().evaluate(
        "async text => { const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));"
        " const map = await createImageBitmap(new Blob([bytes]));"
        " const copy = new OffscreenCanvas(map.width, map.height).getContext('2d'); copy.drawImage(map, 0, 0);"
        " return [...copy.getImageData(0, 0, map.width, map.height).data]; }",
        base64.b64encode(picture).decode("ascii"),
    )
    return np.array(data, dtype=np.float64).reshape(-1, 4)


def test_tables_of_one_title_stand_together(show: Show) -> None:
    def tables(*titles: str) -> list[PageTable]:
        return [PageTable(title, ["a"], [[1]]) for title in titles]

    page = show(run(tables=tables("Scores", "Phenomena", "Heads")), run("b", tables=tables("Scores", "Heads", "More")))
    headings = page.locator(".table h2").all_inner_texts()
    assert headings == ["A Scores", "B Scores", "A Phenomena", "A Heads", "B Heads", "B More"]
    first, second = (page.locator(".table").nth(place).bounding_box() for place in (0, 1))
    assert first["y"] == second["y"]
    assert first["x"] < second["x"]
