"""A comparison as one HTML file to look around in: no server, no network, opened from disk."""

from attnframe.comparison.page.assembly import comparison_html
from attnframe.comparison.page.content import ComparisonPage, PageCurve, PageDifference, PagePatterns

__all__ = ["ComparisonPage", "PageCurve", "PageDifference", "PagePatterns", "comparison_html"]
