"""Showing a page in a browser."""

from __future__ import annotations

import os
import webbrowser
from pathlib import Path


def open_in_browser(file: Path) -> None:
    """Show the file in a browser with a window of its own; where there is none, the path that is printed has to do."""
    try:
        browser = webbrowser.get()
    except webbrowser.Error:
        return
    # A text browser would take over this terminal, and wait.
    runs_here = isinstance(browser, webbrowser.GenericBrowser) and not isinstance(browser, webbrowser.BackgroundBrowser)
    if "BROWSER" in os.environ or not runs_here:
        browser.open(file.absolute().as_uri())
