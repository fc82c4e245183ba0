"""The pattern page in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from attnframe.patterns.page import PageRun, page_html

Show = Callable[..., Any]


@pytest.fixture
def show(open_html: Callable[..., Any]) -> Show:
    """`show(*runs, width=..., hash=..., theme=..., **options)` opens their page, whose options are `page_html`'s."""

    def show(*runs: PageRun, width: int = 1440, hash: str = "", theme: str = "light", **options: Any) -> Any:
        page = open_html(page_html(runs, **options), width=width, hash=hash, theme=theme)
        page.locator("#masthead h1:not(:empty)").wait_for()
        page.locator("#time[max], #empty:not([hidden])").first.wait_for(state="attached")
        return page

    return show
