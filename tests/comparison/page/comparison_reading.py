"""What the page of a comparison shows in a browser, read back as numbers, and what was given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from comparison_samples import all_patterns, curves

from attnframe.comparison.page import PageCurve


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
