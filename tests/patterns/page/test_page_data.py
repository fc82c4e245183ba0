"""The page's data gives back what was put in: maps within half a step, texts to the letter."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from html_document import HOSTILE, Document
from numpy.testing import assert_allclose, assert_array_equal
from page_samples import STEPS, decoded, pattern, run, sentence

from attnframe.attention import PatternKind
from attnframe.patterns.page import PagePattern, PageRun, PageSentence, PageTable, page_html

SHAPE = (len(STEPS), 3, 7, 5)


def data_of(*runs: PageRun, **options: Any) -> dict[str, Any]:
    return Document(page_html(runs, **options)).data


def only_map(weights: np.ndarray, kind: PatternKind = PatternKind.PROBABILITY) -> tuple[dict[str, Any], np.ndarray]:
    """Record and numbers of one pattern after the way through the page."""
    times, _, queries, keys = weights.shape
    shown = PageSentence(
        "s", "t", {"cross": (["q"] * queries, ["k"] * keys)}, {("cross", 0): PagePattern(kind, weights)}
    )
    data = data_of(PageRun("r", range(times), [shown]))
    record = data["runs"][0]["sentences"][0]["patterns"][0]["weights"]
    return record, decoded(data, record, weights.shape)


def test_every_map_comes_back_within_half_a_step() -> None:
    runs = run(), run("second", seed=90)
    data = data_of(*runs)
    for shown, record in zip(runs, data["runs"], strict=True):
        for given, kept in zip(shown.sentences, record["sentences"], strict=True):
            assert len(kept["patterns"]) == 6
            for maps in kept["patterns"]:
                original = given.patterns[maps["site"], maps["layer"]]
                assert maps["heads"] == 3
                for quantity, array in (("weights", original.weights), ("contributions", original.contributions)):
                    assert array is not None
                    span = array.max((-2, -1), keepdims=True) - array.min((-2, -1), keepdims=True)
                    span = np.ones_like(span) if quantity == "weights" else span
                    error = np.abs(decoded(data, maps[quantity], array.shape) - array)
                    assert (error <= 0.501 * span / 65534 + 1e-8 * np.abs(array)).all()


def test_probabilities_keep_nought_and_one_exactly() -> None:
    weights = np.zeros((1, 1, 2, 3), dtype=np.float32)
    weights[0, 0, :, 1] = 1, 1 + 1e-6
    record, found = only_map(weights)
    assert (record["low"], record["high"]) == (0, 1)
    assert_array_equal(found[0, 0], [[0, 1, 0], [0, 1, 0]])


def test_what_is_not_finite_is_marked_and_harms_no_neighbour() -> None:
    weights = pattern(7, 5, kind=PatternKind.SIGNED).weights.copy()
    weights[0, 1, 2, 3], weights[1, 0, 0, 0], weights[2, 2, 1, 4] = np.nan, np.inf, -np.inf
    weights[4, 1] = np.nan
    _, found = only_map(weights, PatternKind.SIGNED)
    assert_array_equal(np.isnan(found), ~np.isfinite(weights))
    finite = np.isfinite(weights)
    assert_allclose(found[finite], weights[finite], rtol=0, atol=6 / 65534)


@pytest.mark.parametrize("ends", [(-1.5e308, 1.7e308), (3.25, 3.25), (-1e-300, 1e-300), (-7, -2)])
def test_ends_of_any_size_come_back(ends: tuple[float, float]) -> None:
    weights = np.array(ends, dtype=np.float64).reshape(1, 1, 1, 2)
    _, found = only_map(weights, PatternKind.SIGNED)
    assert_allclose(found, weights, rtol=1e-8)


def test_a_probability_that_is_none_keeps_its_own_ends() -> None:
    record, found = only_map(np.array([[[[-0.5, 1.75]]]]))
    assert (record["low"], record["high"]) == ([-0.5], [1.75])
    assert_array_equal(found.ravel(), [-0.5, 1.75])


def test_texts_and_numbers_come_back() -> None:
    shown = sentence(HOSTILE, "\ud800 alone, שלום, 👩‍👩‍👧")
    table = PageTable(
        HOSTILE, ["a", "b"], [[HOSTILE, float("nan")], [None, np.float32(0.5)], [np.int64(3), -np.inf]], "c"
    )
    traces = {HOSTILE: [1.0, None, float("nan"), float("inf"), 1 / 3]}
    given = run(HOSTILE, subtitle=HOSTILE, sentences=[shown], traces=traces, tables=[table], importance=None)
    (kept,) = data_of(given)["runs"]
    assert (kept["name"], kept["subtitle"]) == (HOSTILE, HOSTILE)
    (there,) = kept["sentences"]
    assert (there["source"], there["target"]) == (shown.source, shown.target)
    assert there["labels"]["cross"] == [list(side) for side in shown.labels["cross"]]
    assert there["gold"] == {"sure": [[0, 0], [1, 2], [2, 1]], "possible": [[3, 4]]}
    assert kept["traces"] == {HOSTILE: [1.0, None, None, None, 0.333333]}
    assert kept["tables"] == [
        {
            "title": HOSTILE,
            "caption": "c",
            "columns": ["a", "b"],
            "rows": [[HOSTILE, "NaN"], [None, 0.5], [3, "−∞"]],
        }
    ]


def test_heads_have_their_traces_and_importance() -> None:
    given = run(importance={("cross", 1, 2): 0.75, ("cross", 0, 0): float("nan")}, head_traces={("cross", 1, 2): {}})
    (kept,) = data_of(given)["runs"]
    assert kept["heads"] == [
        {"place": ["cross", 1, 2], "importance": 0.75, "traces": {}},
        {"place": ["cross", 0, 0], "importance": None, "traces": {}},
    ]


def test_too_many_steps_are_thinned_out_evenly() -> None:
    times = 41
    maps = pattern(7, 5, times=times)
    assert maps.contributions is not None
    shown = PageSentence("s", "t", {"cross": (["q"] * 7, ["k"] * 5)}, {("cross", 0): maps})
    entropy = [float(time) for time in range(times)]
    given = PageRun(
        "r",
        range(0, 100 * times, 100),
        [shown],
        traces={"loss": entropy},
        head_traces={("cross", 0, 1): {"h": entropy}},
    )
    whole = len(page_html([given]).encode())
    size = whole - 9000
    document = page_html([given], max_bytes=size)
    assert len(document.encode()) <= size
    data = Document(document).data
    (kept,) = data["runs"]
    places = [step // 100 for step in kept["shown"]]
    assert places[0] == 0
    assert places[-1] == times - 1
    assert kept["recorded"] == times
    assert 10 < len(places) < times
    assert max(np.diff(places)) - min(np.diff(places)) <= 1
    assert len(kept["steps"]) == times, "what is left out is still counted"
    assert kept["traces"]["loss"] == entropy
    assert kept["heads"][0]["traces"]["h"] == entropy
    record = kept["sentences"][0]["patterns"][0]["contributions"]
    assert_allclose(decoded(data, record, (len(places), 3, 7, 5)), maps.contributions[places], atol=1e-3)


def test_maps_of_some_steps_only_among_the_numbers_of_all() -> None:
    maps = pattern(7, 5, times=2)
    shown = PageSentence("s", "t", {"cross": (["q"] * 7, ["k"] * 5)}, {("cross", 0): maps})
    given = run(sentences=[shown], pattern_steps=(300, 900), opening=("cross", 0, 2))
    data = data_of(given)
    (kept,) = data["runs"]
    assert (kept["steps"], kept["shown"], kept["opening"]) == (list(STEPS), [300, 900], ["cross", 0, 2])
    assert kept["traces"]["val/loss"] == [3.2, 1.1, 0.5, 0.25, 0.125]
    record = kept["sentences"][0]["patterns"][0]["weights"]
    assert_allclose(decoded(data, record, (2, 3, 7, 5)), maps.weights, atol=1 / 65534)


def test_the_first_and_last_step_always_stay() -> None:
    (one, other) = data_of(run(), run("second", steps=STEPS), max_bytes=1)["runs"]
    assert one["shown"] == other["shown"] == [STEPS[0], STEPS[-1]]


def test_the_default_run_fits_with_every_step() -> None:
    shown = [sentence_of_twelve(seed) for seed in range(3)]
    heads = {(site, layer, head): None for site in ("cross",) for layer in range(3) for head in range(4)}
    given = PageRun(
        "default",
        range(11),
        shown,
        head_traces={place: {f"measure {i}": [0.123456] * 11 for i in range(12)} for place in heads},
    )
    document = page_html([given])
    assert len(document.encode()) < 2_500_000
    assert Document(document).data["runs"][0]["shown"] == list(range(11))


def sentence_of_twelve(seed: int) -> PageSentence:
    words = [f"word{i}" for i in range(12)]
    sites = ("encoder_self", "decoder_self", "cross")
    return PageSentence(
        f"sentence {seed}",
        "target",
        dict.fromkeys(sites, (words, words)),
        {
            (site, layer): pattern(12, 12, times=11, heads=4, seed=seed + 10 * layer + 100 * place)
            for place, site in enumerate(sites)
            for layer in range(3)
        },
    )
