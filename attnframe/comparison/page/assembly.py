"""The page of a comparison: which files it is made of, and how many sentences' patterns fit into it."""

from __future__ import annotations

from typing import Final

from attnframe.comparison.page.checks import check_page
from attnframe.comparison.page.content import ComparisonPage
from attnframe.comparison.page.encoding import all_sources, comparison_data
from attnframe.patterns.page.document import Shell, document

_HERE: Final = "attnframe.comparison.page"
_PATTERNS: Final = "attnframe.patterns.page"
_SHELL: Final = Shell(
    template=(_HERE, "comparison.html"),
    styles=(
        (_PATTERNS, "sheet.css"),
        (_PATTERNS, "heatmap.css"),
        (_PATTERNS, "sorting.css"),
        (_HERE, "groups.css"),
        (_HERE, "forest.css"),
        (_HERE, "curves.css"),
        (_HERE, "comparison.css"),
    ),
    scripts=(
        (_PATTERNS, "data.js"),
        (_PATTERNS, "colour.js"),
        (_PATTERNS, "elements.js"),
        (_PATTERNS, "theme.js"),
        (_PATTERNS, "words.js"),
        (_PATTERNS, "legend.js"),
        (_PATTERNS, "heatmap.js"),
        (_PATTERNS, "plot.js"),
        (_PATTERNS, "tables.js"),
        (_PATTERNS, "sorting.js"),
        (_PATTERNS, "opening.js"),
        (_HERE, "groups.js"),
        (_HERE, "axis.js"),
        (_HERE, "forest.js"),
        (_HERE, "curve_chart.js"),
        (_HERE, "curves.js"),
        (_HERE, "side_by_side.js"),
        (_HERE, "comparison.js"),
    ),
)


def comparison_html(page: ComparisonPage, *, max_bytes: int = 5_000_000) -> str:
    """The page of a comparison as one self-contained HTML document, in ASCII.

    Patterns of the last sentences are left out while the document is larger than `max_bytes`; the page says how many
    sentences it shows. Where one sentence alone makes it larger, so is the document.

    Raises ValueError for what cannot be shown: curves, bands or table rows of unequal length, an axis that is not one
    of `checks.AXES`, x that falls or is not finite, ends in the wrong order, a p beyond 0 to 1, anything named twice,
    and patterns that `attnframe.patterns.page.page_html` would refuse.
    """
    check_page(page)
    sentences = len(all_sources(page))
    while True:
        html = document(_SHELL, comparison_data(page, sentences))
        if len(html) <= max_bytes or sentences <= 1:
            return html
        sentences = max(1, min(sentences - 1, int(sentences * max_bytes / len(html))))
