"""The page of a search and its words."""

from __future__ import annotations

import base64
import math
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from stub_jobs import search

from attnframe.sweeps.search import outcome
from attnframe.sweeps.search.report import write_search_report
from attnframe.sweeps.search.space_reading import read_space

SPACE = read_space(
    ["lr=tag(log,interval(1e-4,1))", "variant=plain,ranked", "rank=range(1,6)", "note='two words'", "sweep=mine"],
    conditions_of={"rank": "variant=ranked"},
)


def score(values: Mapping[str, str]) -> dict[str, Any]:
    """Only the learning rate counts, and has a price; a large one gives NaN."""
    lr = float(values["lr"])
    return {"val/loss": math.nan if lr > 0.3 else 1 + (math.log10(lr) + 2) ** 2, "parameters": 1000 * lr}


def test_the_page_shows_everything_without_a_network(tmp_path: Path) -> None:
    found, _, _ = search(tmp_path, SPACE, score, n_trials=25, pruner="median")
    lines = [outcome.override_line(found, trial) for trial in found.best]
    page = write_search_report(found, tmp_path, lines).read_text(encoding="utf-8")
    assert not re.search(r"https?://|@import|url\(", page)
    for place in re.findall(r"(?:src|href)=\"([^\"]*)\"", page):
        assert place.startswith("data:") or not re.match("[a-z]+:|/", place)
    drawings = [base64.b64decode(code) for code in re.findall(r"data:image/svg\+xml;base64,([\w+/=]+)", page)]
    assert len(drawings) == 1 + 1 + 3
    for drawing in drawings:
        assert ElementTree.fromstring(drawing).tag.endswith("svg")
    assert len(re.findall("<tr>", page)) == 1 + 25
    assert "failed: val/loss is nan after step 10" in page
    assert "pruned: after step" in page
    for trial in found.trials:
        assert f">{trial.number}</a>" in page


def test_the_page_of_several_objectives_has_every_compromise(tmp_path: Path) -> None:
    found, _, _ = search(tmp_path, SPACE, score, n_trials=15, objective=["val/loss", "parameters"])
    lines = [outcome.override_line(found, trial) for trial in found.best]
    page = write_search_report(found, tmp_path, lines).read_text(encoding="utf-8")
    assert page.count("<code>attnframe train") == len(found.best) > 1
    assert page.count("data:image/svg+xml") == 2 + 1 + 2 + 6


def test_a_page_without_a_complete_trial_says_so(tmp_path: Path) -> None:
    found, _, _ = search(tmp_path, SPACE, lambda values: {"error": "<no luck>"}, n_trials=3)
    page = write_search_report(found, tmp_path, []).read_text(encoding="utf-8")
    assert "No trial is complete." in page
    assert "&lt;no luck&gt;" in page


def test_the_parameter_that_counts_is_the_important_one(tmp_path: Path) -> None:
    found, _, _ = search(tmp_path, SPACE, score, n_trials=40)
    importance = outcome.importance(found, 0)
    assert set(importance) == {"lr", "variant", "rank"}
    assert sum(importance.values()) == pytest.approx(1)
    assert max(importance, key=lambda key: importance[key]) == "lr"


def test_the_best_is_a_line_for_a_shell(tmp_path: Path) -> None:
    found, jobs, _ = search(tmp_path, SPACE, score, n_trials=8)
    best = min((run for run in jobs.runs if score(run)["val/loss"] > 0), key=lambda run: score(run)["val/loss"])
    line = outcome.override_line(found, found.best[0])
    # One run has no sweep to name.
    assert sorted(shlex.split(line)) == sorted(f"{key}={value}" for key, value in best.items() if key != "sweep")
    assert outcome.ranked(found)[0] == found.best[0]
