"""Patterns as one HTML file to look around in: no server, no network, opened from disk."""

from attnframe.patterns.page.assembly import page_html
from attnframe.patterns.page.content import PagePattern, PageRun, PageSentence, PageTable

__all__ = ["PagePattern", "PageRun", "PageSentence", "PageTable", "page_html"]
