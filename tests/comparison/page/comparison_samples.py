"""Comparisons to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from attnframe.attention import PatternKind
from attnframe.comparison.page import ComparisonPage, PageCurve, PageDifference, PagePatterns
from attnframe.data.schema import Alignment
from attnframe.patterns.page import PagePattern, PageRun, PageSentence, PageTable

GROUPS = ("multi_head", "multi_query", "rotary")
STEPS = (100, 300, 500, 900, 1100, 1300, 1700)
SRC = ["the", "red", "dog", "sleeps", "<eos>"]
TGT = ["le", "chien", "rouge", "dort", "ici", ".", "<eos>"]
AXIS_SCALE = {"step": 1.0, "seconds": 0.37, "flops": 2.9e9}


def curve(
    group: str, metric: str = "val/loss", axis: str = "step", *, steps: Sequence[int] = STEPS, seed: int = 0
) -> PageCurve:
    """A loss that falls, with a band that is not of even width."""
    random = np.random.default_rng([seed, len(group), *map(ord, metric)])
    count = len(steps)
    mean = 3.1 * np.exp(-np.linspace(0, 3.7, count)) + 0.2 + 0.13 * random.random(count)
    low, high = mean - 0.21 * random.random(count), mean + 0.17 * random.random(count)
    x = [step * AXIS_SCALE[axis] * (1 if axis == "step" else 1 + 0.1 * len(group)) for step in steps]
    return PageCurve(group, metric, axis, [*map(int, x)] if axis == "step" else x, [*mean], [*low], [*high])


def curves(groups: Sequence[str] = GROUPS) -> list[PageCurve]:
    return [
        curve(group, metric, axis, seed=place)
        for place, group in enumerate(groups)
        for metric in ("val/loss", "val/token_accuracy")
        for axis in AXIS_SCALE
    ]


def difference(first: str, second: str, measure: str = "BLEU", set: str = "test", **changes: Any) -> PageDifference:
    settings: dict[str, Any] = {
        "difference": 2.25,
        "low": 0.5,
        "high": 4.125,
        "p": 0.0125,
        "p_holm": 0.0375,
        "verdict": f"{first} is higher",
    }
    return PageDifference(first, second, measure, set, **settings | changes)


def differences() -> list[PageDifference]:
    unclear = {"p": 0.31, "p_holm": 0.62, "verdict": "no difference shown"}
    return [
        difference("multi_head", "multi_query"),
        difference("multi_head", "rotary", difference=-0.75, low=-2.5, high=1.0, **unclear),
        difference("multi_query", "rotary", difference=-3.0, low=np.nan, high=np.nan, p=None, p_holm=None),
        difference("multi_head", "multi_query", "exact match", difference=0.03, low=0.01, high=0.05),
        difference("multi_head", "multi_query", "BLEU", "unseen", difference=-7.5, low=-9.0, high=-6.0),
    ]


def pattern(
    queries: int,
    keys: int,
    *,
    heads: int = 3,
    seed: int = 0,
    kind: PatternKind = PatternKind.PROBABILITY,
    contributions: bool = True,
) -> PagePattern:
    """Random maps of two steps."""
    random = np.random.default_rng(seed)
    weights = random.dirichlet(np.full(keys, 0.4), size=(2, heads, queries))
    weights = weights if kind is PatternKind.PROBABILITY else 2.7 * weights
    return PagePattern(kind, weights, weights * 1.7 if contributions else None)


def patterns(group: str, *, layers: int = 2, seed: int = 0, **options: Any) -> PagePatterns:
    """Two sentences with gold links, at cross and encoder_self."""
    labels = {"encoder_self": (SRC, SRC), "cross": (TGT, SRC)}
    sentences = [
        PageSentence(
            source,
            target,
            labels,
            {
                (site, layer): pattern(
                    len(labels[site][0]), len(SRC), seed=seed + 7 * place + 31 * layer + len(site), **options
                )
                for site in labels
                for layer in range(layers)
            },
            Alignment(frozenset({(0, 0), (2, 1), (1, 2)}), frozenset({(3, 4)})),
        )
        for place, (source, target) in enumerate(
            [("the red dog sleeps", "le chien rouge dort ici ."), ("a second one", "une deuxième")]
        )
    ]
    return PagePatterns(group, PageRun(f"{group}/seed=0", STEPS[-2:], sentences, opening=("cross", layers - 1, 1)))


def all_patterns() -> list[PagePatterns]:
    """The second group has one layer only, the third two heads."""
    return [
        patterns("multi_head", seed=11),
        patterns("multi_query", layers=1, seed=211),
        patterns("rotary", heads=2, seed=411, contributions=False),
    ]


TABLE = PageTable(
    "Results on test",
    ["variant", "runs", "BLEU", "95 % interval", "parameters"],
    [
        ["multi_head", 3, 27.5, "25.1 to 29.9", 41237],
        ["multi_query", 3, 25.25, "24.0 to 26.5", 38123],
        ["rotary", 1, None, "–", 41237],
    ],
    "Mean over seeds.",
)


def comparison(**changes: Any) -> ComparisonPage:
    settings: dict[str, Any] = {
        "title": "Three variants",
        "subtitle": "grammar, 7 runs",
        "warnings": ["rotary has one run: nothing is known of how seeds differ."],
        "tables": [
            TABLE,
            PageTable(
                "By length", ["words", "multi_head", "multi_query"], [["1 to 5", 31.5, 30.0], ["6 to 9", 22.0, 20.5]]
            ),
            PageTable("Failed runs", ["run", "error"], [["rotary/seed=1", "loss became NaN"]]),
        ],
        "curves": curves(),
        "differences": differences(),
        "patterns": all_patterns(),
        "notes": ["Intervals are Student t intervals over seeds."],
    }
    return ComparisonPage(**settings | changes)
