"""The document around the data: nothing can be put into it, and it asks for nothing."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import numpy as np
import pytest
from html_document import HOSTILE, Document
from page_samples import labels, pattern, run, sentence

from attnframe.attention import PatternKind
from attnframe.data.schema import Alignment
from attnframe.patterns.page import PagePattern, PageRun, PageSentence, PageTable, page_html


def hostile_run() -> PageRun:
    maps = pattern(1, 1, times=1, heads=1)
    shown = PageSentence(HOSTILE, HOSTILE, {HOSTILE: ([HOSTILE], [HOSTILE])}, {(HOSTILE, 0): maps})
    return PageRun(HOSTILE, [1], [shown], HOSTILE, {HOSTILE: [1.0]}, {(HOSTILE, 0, 0): {HOSTILE: [1.0]}})


def test_no_text_becomes_markup() -> None:
    plain, hostile = Document(page_html([run()])), Document(page_html([hostile_run()]))
    assert hostile.tags == plain.tags
    assert hostile.data["runs"][0]["name"] == HOSTILE
    assert not {"<", ">", "&"} & set(hostile.raw["script"][0])


def test_marks_of_the_template_in_a_text_stay_text() -> None:
    text = "{{script}} {{data}} {{policy}} {{style}}"
    assert Document(page_html([run(text)])).data["runs"][0]["name"] == text


def test_the_policy_admits_the_script_and_the_style_and_nothing_else() -> None:
    document = Document(page_html([run(), run("second")]))
    _, script = document.raw["script"]
    (style,) = document.raw["style"]

    def digest(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert document.policy == {
        "default-src": ["'none'"],
        "script-src": [digest(script)],
        "style-src": [digest(style)],
        "base-uri": ["'none'"],
        "form-action": ["'none'"],
    }


def test_the_document_is_ascii_so_that_no_encoding_can_break_the_digests() -> None:
    assert page_html([hostile_run()]).isascii()


def test_nothing_is_asked_for_and_nothing_is_styled_or_run_in_place() -> None:
    document = Document(page_html([run()]))
    for tag, attributes in document.tags:
        assert tag not in {"link", "img", "iframe", "form", "base", "object"}
        assert not {"src", "href", "style"} & set(attributes)
        assert not any(name.startswith("on") for name in attributes)
    code = document.raw["script"][1]
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "Function(",
        "<!--",
        "fetch(",
    ):
        assert word not in code
    assert "url(" not in document.raw["style"][0]


def test_a_run_without_patterns_still_has_its_page() -> None:
    (kept,) = Document(page_html([run(sentences=[], head_traces={}, importance=None)])).data["runs"]
    assert kept["sentences"] == []
    assert kept["traces"]["val/loss"]


def _with_pattern(**changes: Any) -> PageRun:
    settings = {"source": "s", "target": "t", "labels": labels(), "patterns": {("cross", 1): pattern(7, 5)}}
    return run(sentences=[PageSentence(**settings | changes)])


@pytest.mark.parametrize(
    ("runs", "says"),
    [
        ([], "one run or two side by side, not 0"),
        ([run()] * 3, "not 3"),
        ([run(steps=(1, 2, 2, 4, 5))], r"steps \[1, 2, 2, 4, 5\] do not rise"),
        ([run(steps=(), traces={}, head_traces={})], "sentences but no pattern steps"),
        ([run(pattern_steps=(300, 100))], r"pattern steps \[300, 100\] do not rise"),
        ([run(pattern_steps=(100, 200))], r"pattern steps \[200\] are not among the steps \[100, 300,"),
        ([run(pattern_steps=(100, 300))], r"\[2 steps, heads, "),
        ([run(sentences=[sentence(), sentence()])], "'the red dog sleeps' comes twice"),
        ([run(traces={"val/loss": [1.0, 2.0]})], "trace val/loss has 2 values for 5 steps"),
        ([run(head_traces={("cross", 1, 2): {"entropy": [1.0]}})], r"trace entropy of \('cross', 1, 2\) has 1 values"),
        ([run(tables=[PageTable("T", ["a"], [["1", "2"]])])], "table 'T': a row of 2 cells under 1 columns"),
        ([_with_pattern(labels={})], "no labels for site cross"),
        ([_with_pattern(patterns={("cross", 1): pattern(5, 7)})], r"cross layer 1: weights of shape \(5, 3, 5, 7\)"),
        ([_with_pattern(patterns={("cross", 1): pattern(7, 5, times=3)})], r"\[5 steps, heads, 7 query labels"),
        (
            [_with_pattern(patterns={("cross", 1): PagePattern(PatternKind.IMPLICIT, np.zeros((5, 0, 7, 5)))})],
            r"weights of shape \(5, 0, 7, 5\)",
        ),
        (
            [_with_pattern(patterns={("cross", 1): PagePattern(PatternKind.IMPLICIT, np.zeros((7, 5)))})],
            r"weights of shape \(7, 5\)",
        ),
        (
            [
                _with_pattern(
                    patterns={
                        ("cross", 1): PagePattern(
                            PatternKind.PROBABILITY, pattern(7, 5).weights, pattern(7, 5, heads=2).weights
                        )
                    }
                )
            ],
            r"contributions of shape \(5, 2, 7, 5\) beside weights of \(5, 3, 7, 5\)",
        ),
        ([_with_pattern(alignment=Alignment(frozenset({(5, 0)})))], r"link \(5, 0\) lies outside 7 queries x 5 keys"),
        ([_with_pattern(alignment=Alignment(frozenset({(0, -1)})))], r"link \(0, -1\) lies outside"),
        (
            [_with_pattern(labels={}, patterns={}, alignment=Alignment(frozenset({(0, 0)})))],
            "gold links, but no labels for cross",
        ),
    ],
)
def test_what_cannot_be_shown_is_refused(runs: list[PageRun], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        page_html(runs)
