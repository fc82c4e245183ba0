"""The document of the catalogue: what is put in comes back, nothing becomes markup, nothing is asked for."""

from __future__ import annotations

import dataclasses

import numpy as np
from catalogue_samples import catalogue, entry, maps
from html_document import HOSTILE, Document
from numpy.testing import assert_allclose

from attnframe.catalogue import Catalogue, CatalogueEntry, Maps, catalogue_html


def hostile() -> Catalogue:
    texts = {"formula": HOSTILE, "text": [HOSTILE], "paper": HOSTILE, "file": HOSTILE, "conformance": HOSTILE}
    one = entry(
        HOSTILE,
        **texts,
        options=[(HOSTILE, HOSTILE, HOSTILE)],
        takes=[HOSTILE],
        backends=[HOSTILE],
        costs={"encoder_self": HOSTILE},
        maps={"unmasked": HOSTILE, "causal": maps()},
    )
    return dataclasses.replace(catalogue(one, entry("other")), notices=[HOSTILE], versions={"attnframe": HOSTILE})


def test_no_text_becomes_markup() -> None:
    plain, document = Document(catalogue_html(catalogue())), Document(catalogue_html(hostile()))
    assert document.tags == plain.tags
    assert document.data["entries"][0]["formula"] == HOSTILE
    assert not {"<", ">", "&"} & set(document.raw["script"][0])
    assert catalogue_html(hostile()).isascii()


def test_nothing_is_asked_for_and_nothing_is_styled_or_run_in_place() -> None:
    document = Document(catalogue_html(catalogue()))
    for tag, attributes in document.tags:
        assert tag not in {"link", "img", "iframe", "form", "base", "object"}
        assert not {"src", "href", "style"} & set(attributes)
    assert document.policy["default-src"] == ["'none'"]
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(", "fetch("):
        assert word not in document.raw["script"][1]
    assert "url(" not in document.raw["style"][0]


def test_weights_come_back_and_what_is_not_finite_is_nothing() -> None:
    given = maps(5)
    given.weights[0, 1, 2] = np.nan
    given.weights[0, 1, 3] = np.inf
    page = Document(catalogue_html(catalogue(entry("multi_head", maps={"causal": given, "unmasked": "none here"}))))
    found = page.data["entries"][0]["maps"]
    assert found["unmasked"] == {"refusal": "none here"}
    weights = np.array(found["causal"]["weights"], dtype=float)
    assert np.argwhere(np.isnan(weights)).tolist() == [[0, 1, 2], [0, 1, 3]]
    finite = np.isfinite(given.weights)
    assert_allclose(weights[finite], given.weights[finite], atol=5.1e-5)


def test_thirty_variants_stay_small() -> None:
    def one(place: int) -> CatalogueEntry:
        return entry(f"variant_{place}", maps={"unmasked": maps(place, 4), "causal": maps(place + 100, 4)})

    html = catalogue_html(catalogue(*map(one, range(30))))
    assert len(html) < 3_000_000
    assert isinstance(one(0).maps["causal"], Maps)
