"""Catalogues to make pages of."""

from __future__ import annotations

import numpy as np

from attnframe.catalogue import SENTENCE, Catalogue, CatalogueEntry, Cost, Maps, Sizes

SIZES = Sizes(d_model=44, encoder_d_model=44, num_heads=2, bias=True, length=13, sites=("encoder_self", "decoder_self"))
VERSIONS = {"attnframe": "1.2.3", "torch": "4.5.6"}


def maps(seed: int = 0, heads: int = 3, kind: str = "probability", low: float = 0.0) -> Maps:
    """Random rows; shares where they are probabilities."""
    drawn = np.random.default_rng(seed).uniform(low, 1, (heads, len(SENTENCE), len(SENTENCE)))
    return Maps(drawn / drawn.sum(-1, keepdims=True) if kind == "probability" else drawn, kind)


def entry(name: str, **changes: object) -> CatalogueEntry:
    given: dict[str, object] = {
        "name": name,
        "is_plugin": False,
        "formula": "softmax(Q_h·K_hᵀ/√d_k)·V with `rank`.",
        "text": ["Reference: Somebody 2020, https://example.org/paper. Our `rank` is their r.", "More."],
        "options": [("rank", "int | None", "null")],
        "takes": ["d_model", "num_heads"],
        "paper": "Somebody 2020, https://example.org/paper",
        "file": f"attnframe/attention/{name}.py",
        "backends": ["sdpa", "eager"],
        "conformance": "passed",
        "costs": {"encoder_self": Cost(7000, 1234, 88), "decoder_self": Cost(7000, 1234, 88)},
        "maps": {"unmasked": maps(1), "causal": maps(2)},
    }
    return CatalogueEntry(**{**given, **changes})  # type: ignore[arg-type]


def catalogue(*entries: CatalogueEntry, notices: tuple[str, ...] = ()) -> Catalogue:
    return Catalogue(entries or (entry("multi_head"), entry("other")), SIZES, VERSIONS, notices)
