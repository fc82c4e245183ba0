"""The estimate of a whole sweep, whatever one of its jobs does when it is timed."""

from __future__ import annotations

from typing import Any

import pytest

from attnframe.errors import UserError
from attnframe.sweeps.estimating import Estimate, estimate
from attnframe.sweeps.job import Job, Planned
from attnframe.training import data_module
from attnframe.training import estimate as timing


def planned(width: int, seed: int) -> Planned:
    settings = {"data": {"name": "none"}, "seed": seed, "width": width}
    attention: Any = object()
    return Planned(Job(f"width={width} seed={seed}", (), settings, attention), "new")


@pytest.mark.parametrize("error", [UserError("no such device"), RuntimeError("out of memory"), SystemExit(3)])
def test_a_job_that_cannot_be_timed_stops_no_sweep(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(settings: dict[str, Any], *given: Any) -> float:
        if settings["width"] == 7:
            raise error
        return float(settings["width"])

    monkeypatch.setattr(timing, "estimate_seconds", seconds)
    monkeypatch.setattr(data_module, "TranslationData", lambda *given, **named: None)
    plan = [planned(width, seed) for width in (7, 3, 5) for seed in (1, 2)]
    # That which was not timed counts as the mean of 3 and 5.
    assert estimate(plan) == Estimate(24.0, 2, 3)
    assert estimate(plan[:2]) == Estimate(None, 0, 1)


def test_kinds_that_are_too_many_are_timed_from_the_first_to_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    timed = []

    def seconds(settings: dict[str, Any], *given: Any) -> float:
        timed.append(settings["width"])
        return float(settings["width"])

    monkeypatch.setattr(timing, "estimate_seconds", seconds)
    monkeypatch.setattr(data_module, "TranslationData", lambda *given, **named: None)
    widths = range(1, 18)
    assert estimate([planned(width, 1) for width in widths]) == Estimate(float(sum(widths)), 5, 17)
    assert timed == [1, 5, 9, 13, 17]
