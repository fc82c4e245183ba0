"""The pattern page: which files it is made of, and how many steps fit into it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attnframe.patterns.page.checks import check_runs
from attnframe.patterns.page.content import PageRun
from attnframe.patterns.page.document import Shell, document
from attnframe.patterns.page.encoding import page_data

_HERE: Final = "attnframe.patterns.page"
_STYLES: Final = ("sheet.css", "time.css", "heatmap.css", "patterns.css")
_SCRIPTS: Final = (
    "data.js",
    "colour.js",
    "elements.js",
    "theme.js",
    "words.js",
    "legend.js",
    "heatmap.js",
    "heads.js",
    "lines.js",
    "plot.js",
    "charts.js",
    "tables.js",
    "pane.js",
    "opening.js",
    "state.js",
    "page.js",
)
_SHELL: Final = Shell(
    (_HERE, "page.html"), tuple((_HERE, name) for name in _STYLES), tuple((_HERE, name) for name in _SCRIPTS)
)


def page_html(runs: Sequence[PageRun], *, max_bytes: int = 2_500_000) -> str:
    """The page of one run, or of two side by side on the same sentences, as one self-contained HTML document.

    Maps of steps are left out, evenly but never the first and the last, while the document is larger than `max_bytes`;
    the page says how many it shows. Where the first and last alone are larger, so is the document. It is ASCII.

    Raises ValueError for more than two runs or none, and for what does not fit together: arrays that are not [steps,
    heads, query labels, key labels], steps that do not rise, pattern steps that are no steps, a source that
    comes twice, links outside the map, traces not aligned with the steps, table rows not as long as the columns.
    """
    check_runs(runs)
    times = max((len(run.shown_steps) for run in runs), default=0)
    while True:
        html = document(_SHELL, page_data(runs, times))
        if len(html) <= max_bytes or times <= 2:
            return html
        times = max(2, min(times - 1, int(times * max_bytes / len(html))))
