"""Learning curves in a browser: lines, bands, names and what is read at the cursor."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from comparison_reading import check_readings, hover_chart, of, readings
from comparison_samples import STEPS, comparison, curve

pytestmark = pytest.mark.slow
ShowComparison = Callable[..., Any]


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
    assert page.locator(".axis-title").text_content() == "time of training in min"
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
    assert page.locator(".axis-title").text_content() == "work of training in TFLOP"


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
    assert sorted(labels.all_text_contents()) == ["1 multi_head", "2 multi_query", "3 rotary"]
    page.uncheck("#shows-1")
    assert (lines.count(), sorted(labels.all_text_contents())) == (2, ["1 multi_head", "3 rotary"])
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
