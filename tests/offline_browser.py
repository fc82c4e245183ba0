"""A real browser that opens documents from disk, with the network cut."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

OpenHtml = Callable[..., Any]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Headless Chromium; skips where it or playwright is missing."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed, so no page can be looked at"
    )
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("chromium is not installed, so no page can be looked at")
    with playwright.sync_playwright() as started:
        launched = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def open_html(browser: Any, tmp_path: Path) -> Iterator[OpenHtml]:
    """`open_html(document, width=..., hash=..., theme=...)` opens it and gives what playwright calls a page.

    After the test nothing may have been complained of in the console, and nothing asked for beside the file.
    """
    complaints: list[str] = []
    requests: list[str] = []
    contexts: list[Any] = []
    file = tmp_path / "page.html"

    def open_html(document: str, *, width: int = 1440, hash: str = "", theme: str = "light") -> Any:
        file.write_text(document, encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, offline=True, color_scheme=theme, reduced_motion="no-preference"
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url.partition("#")[0]))
        page.goto(file.as_uri() + hash)
        return page

    yield open_html
    for context in contexts:
        context.close()
    assert complaints == []
    assert set(requests) <= {file.as_uri()}


def tab_to(page: Any, selector: str, most: int = 60) -> None:
    """Press Tab until the focus is on `selector`, where it must be seen."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid", f"the focus on {selector} cannot be seen"
            return
    raise AssertionError(f"Tab never comes to {selector}")
