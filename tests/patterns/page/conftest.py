"""A real browser that opens pages from disk, with the network cut."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from attnframe.patterns.page import PageRun, page_html

Show = Callable[..., Any]


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
def show(browser: Any, tmp_path: Path) -> Iterator[Show]:
    """`show(*runs, width=..., hash=..., theme=..., **options)` opens their page and gives what playwright calls a page.

    After the test nothing may have been complained of in the console, and nothing asked for beside the file.
    """
    complaints: list[str] = []
    requests: list[str] = []
    contexts: list[Any] = []
    file = tmp_path / "page.html"

    def show(*runs: PageRun, width: int = 1440, hash: str = "", theme: str = "light", **options: Any) -> Any:
        file.write_text(page_html(runs, **options), encoding="utf-8")
        context = browser.new_context(
            viewport={"width": width, "height": 900}, offline=True, color_scheme=theme, reduced_motion="no-preference"
        )
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url.partition("#")[0]))
        page.goto(file.as_uri() + hash)
        page.locator("#masthead h1:not(:empty)").wait_for()
        page.locator("#time[max], #empty:not([hidden])").first.wait_for(state="attached")
        return page

    yield show
    for context in contexts:
        context.close()
    assert complaints == []
    assert set(requests) <= {file.as_uri()}
