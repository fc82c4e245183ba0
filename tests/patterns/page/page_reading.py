"""What a page in a browser shows, read back as numbers."""

from __future__ import annotations

from typing import Any

import numpy as np

from attnframe.patterns.page import PageRun


def hover(page: Any, row: int, column: int, pane: str = "run1") -> str:
    """Point at a cell; the value that is then read out."""
    field = page.locator(f"#{pane}-map")
    field.scroll_into_view_if_needed()
    box, rows, columns = field.bounding_box(), *shape(page, pane)
    page.mouse.move(box["x"] + (column + 0.5) * box["width"] / columns, box["y"] + (row + 0.5) * box["height"] / rows)
    return str(page.locator(f"#{pane}-readout .value").inner_text())


def shape(page: Any, pane: str = "run1") -> tuple[int, int]:
    sides = (page.locator(f"#{pane} .{side}-labels span").count() for side in ("query", "key"))
    return next(sides), next(sides)


def set_time(page: Any, place: int) -> None:
    page.locator("#time").fill(str(place))


def array(shown: PageRun, place: int, site: str, layer: int, quantity: str = "weights") -> np.ndarray:
    found: np.ndarray = getattr(shown.sentences[place].patterns[site, layer], quantity)
    return found


def pixels(page: Any) -> np.ndarray:
    """[cells, 4] colours of the large map, 0 to 255."""
    data = page.evaluate(
        "() => { const map = document.querySelector('#run1-map canvas');"
        " const { width, height } = map;"
        " const copy = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });"
        " copy.drawImage(map, 0, 0);"
        " return [...copy.getImageData(0, 0, width, height).data]; }"
    )
    return np.array(data, dtype=np.float64).reshape(-1, 4)
