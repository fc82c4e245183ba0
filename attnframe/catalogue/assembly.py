"""The catalogue's page: which files it is made of, and its data."""

from __future__ import annotations

from typing import Final

import numpy as np

from attnframe.catalogue.content import Catalogue, CatalogueEntry, Maps
from attnframe.catalogue.costs import Cost
from attnframe.catalogue.sentence import D_MODEL, NUM_HEADS, SENTENCE
from attnframe.patterns.page.document import Json, Shell, document

_HERE: Final = "attnframe.catalogue"
_PATTERNS: Final = "attnframe.patterns.page"
_SHELL: Final = Shell(
    template=(_HERE, "catalogue.html"),
    styles=((_PATTERNS, "sheet.css"), (_PATTERNS, "sorting.css"), (_HERE, "catalogue.css"), (_HERE, "maps.css")),
    scripts=(
        (_PATTERNS, "colour.js"),
        (_PATTERNS, "elements.js"),
        (_PATTERNS, "theme.js"),
        (_PATTERNS, "words.js"),
        (_PATTERNS, "tables.js"),
        (_PATTERNS, "sorting.js"),
        (_HERE, "maps.js"),
        (_HERE, "entry.js"),
        (_HERE, "overview.js"),
        (_HERE, "catalogue.js"),
    ),
)

# A weight is read on the page to three decimals.
_DECIMALS: Final = 4


def catalogue_html(catalogue: Catalogue) -> str:
    """The page as one self-contained HTML document, in ASCII."""
    return document(_SHELL, _data(catalogue))


def _data(catalogue: Catalogue) -> Json:
    sizes = catalogue.sizes
    return {
        "sizes": {
            "d_model": sizes.d_model,
            "encoder_d_model": sizes.encoder_d_model,
            "num_heads": sizes.num_heads,
            "bias": sizes.bias,
            "length": sizes.length,
            "sites": list(sizes.sites),
        },
        "drawn": {"words": list(SENTENCE), "d_model": D_MODEL, "num_heads": NUM_HEADS},
        "versions": dict(catalogue.versions),
        "notices": list(catalogue.notices),
        "baseline": catalogue.baseline,
        "entries": [_entry(entry) for entry in catalogue.entries],
    }


def _entry(entry: CatalogueEntry) -> Json:
    return {
        "name": entry.name,
        "plugin": entry.is_plugin,
        "formula": entry.formula,
        "text": list(entry.text),
        "options": [list(option) for option in entry.options],
        "takes": list(entry.takes),
        "paper": entry.paper,
        "file": entry.file,
        "backends": list(entry.backends),
        "conformance": entry.conformance,
        "costs": {site: _cost(cost) for site, cost in entry.costs.items()},
        "maps": {name: _maps(maps) for name, maps in entry.maps.items()},
    }


def _cost(cost: Cost | str) -> Json:
    if isinstance(cost, str):
        return {"refusal": cost}
    return {
        "parameters": cost.parameters,
        "flops_per_token": cost.flops_per_token,
        "cache_per_token": cost.cache_per_token,
    }


def _maps(maps: Maps | str) -> Json:
    if isinstance(maps, str):
        return {"refusal": maps}
    rounded = np.round(maps.weights, _DECIMALS) + 0.0  # no -0.0
    # Of what is not finite JSON knows nothing.
    weights = [[[float(weight) if np.isfinite(weight) else None for weight in row] for row in head] for head in rounded]
    return {"kind": maps.kind, "weights": weights}
