"""One HTML file out of the template, the styles, the scripts and the data, under a policy that admits nothing else."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files
from typing import Final

from attnframe.patterns.page.checks import check_runs
from attnframe.patterns.page.content import PageRun
from attnframe.patterns.page.encoding import page_data, script_json

_STYLES: Final = ("page.css", "patterns.css")
# In the order in which one uses the other.
_SCRIPTS: Final = (
    "data.js",
    "colour.js",
    "elements.js",
    "legend.js",
    "heatmap.js",
    "heads.js",
    "lines.js",
    "charts.js",
    "tables.js",
    "pane.js",
    "state.js",
    "page.js",
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
        document = _document(script_json(page_data(runs, times)))
        if len(document) <= max_bytes or times <= 2:
            return document
        times = max(2, min(times - 1, int(times * max_bytes / len(document))))


def _document(data: str) -> str:
    # The data comes last: it may hold anything, marks of the template too.
    return _shell().replace("{{data}}", data)


@lru_cache(maxsize=1)
def _shell() -> str:
    """The document with everything but the data, which is never run and so needs no place in the policy."""
    style = "".join(_resource(name) for name in _STYLES)
    # As escapes in ASCII, so that the digests hold in whatever encoding the document is written, served or embedded.
    script = "".join(_resource(name) for name in _SCRIPTS).encode("ascii", "backslashreplace").decode("ascii")
    policy = (
        f"default-src 'none'; script-src 'sha256-{_sha256(script)}'; style-src 'sha256-{_sha256(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return (
        _resource("page.html").replace("{{policy}}", policy).replace("{{style}}", style).replace("{{script}}", script)
    )


def _resource(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
