"""The page of a comparison in a real browser."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from attnframe.comparison.page import ComparisonPage, comparison_html

ShowComparison = Callable[..., Any]


@pytest.fixture
def show_comparison(open_html: Callable[..., Any]) -> ShowComparison:
    """`show_comparison(page, width=..., theme=...)` opens the page of a comparison."""

    def show_comparison(page: ComparisonPage, *, width: int = 1440, theme: str = "light") -> Any:
        shown = open_html(comparison_html(page), width=width, theme=theme)
        shown.locator("html[data-ready], #trouble:not([hidden])").first.wait_for(state="attached")
        assert shown.locator("#trouble").is_hidden(), shown.locator("#trouble").inner_text()
        return shown

    return show_comparison
