"""Learning curves: by step, time and FLOPs, with bands over seeds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from synthetic_runs import make_run

from attnframe.comparison.curves import learning_curves
from attnframe.comparison.grouping import group_runs
from attnframe.comparison.page import PageCurve
from attnframe.comparison.run_records import read_runs


def curves(folder: Path) -> dict[str, PageCurve]:
    """Those of val/loss by axis."""
    found = learning_curves(group_runs(read_runs([folder])))
    return {curve.axis: curve for curve in found if curve.metric == "val/loss"}


def test_runs_with_the_same_steps_are_averaged_there(tmp_path: Path) -> None:
    rows = [(3.0, 2.0, 1.5), (3.2, 2.5, 1.0), (2.9, 2.2, 1.4)]
    for seed, row in enumerate(rows):
        make_run(tmp_path / str(seed), seed=seed, curve=tuple(zip((10, 20, 23), row, strict=True)))
    found = curves(tmp_path)
    assert found["step"].x == [10, 20, 23]
    assert found["step"].mean == pytest.approx(np.mean(rows, axis=0))
    low, high = stats.t.interval(0.95, 2, loc=np.mean(rows, axis=0), scale=stats.sem(rows, axis=0))
    assert found["step"].low == pytest.approx(low)
    assert found["step"].high == pytest.approx(high)
    # 20,000 tokens in 100 steps at 3,000 FLOPs each.
    assert found["flops"].x == pytest.approx([10 * 6e5, 20 * 6e5, 23 * 6e5])


def test_runs_with_other_steps_meet_where_all_of_them_have_been(tmp_path: Path) -> None:
    make_run(tmp_path / "a", seed=1, curve=((0, 4.0), (100, 2.0)))
    make_run(tmp_path / "b", seed=2, curve=((20, 3.0), (80, 0.0), (90, 0.0)))
    found = curves(tmp_path)["seconds"]
    assert (found.x[0], found.x[-1]) == (20, 90)
    middle = min(range(len(found.x)), key=lambda place: abs(found.x[place] - 50))
    assert found.mean[middle] == pytest.approx((3.0 + 1.5) / 2, abs=0.05)


def test_one_run_has_no_band(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    found = curves(tmp_path)
    assert (found["step"].low, found["step"].high) == (None, None)
    assert found["step"].mean == [3.0, 2.0, 1.0]


def test_a_step_that_is_validated_twice_counts_as_last_measured(tmp_path: Path) -> None:
    make_run(tmp_path / "a", curve=((10, 3.0), (20, 2.0), (20, 1.0)))
    assert (curves(tmp_path)["step"].x, curves(tmp_path)["step"].mean) == ([10, 20], [3.0, 1.0])


def test_without_flops_there_is_no_such_axis(tmp_path: Path) -> None:
    make_run(tmp_path / "a", results={"train/flops_per_token": None})
    assert set(curves(tmp_path)) == {"step", "seconds"}


def test_what_one_run_lacks_is_no_curve_of_the_group(tmp_path: Path) -> None:
    make_run(tmp_path / "a", seed=1)
    make_run(tmp_path / "b", seed=2, curve=())
    assert curves(tmp_path) == {}


def test_runs_that_never_meet_have_no_curve(tmp_path: Path) -> None:
    make_run(tmp_path / "a", seed=1, curve=((0, 4.0), (10, 2.0)))
    make_run(tmp_path / "b", seed=2, curve=((20, 3.0), (30, 0.0)))
    assert curves(tmp_path) == {}


@pytest.mark.parametrize(
    "content", ["", "step,seconds\n", "no,such,columns\n1,2,3\n", "step,seconds,val/loss\n10,1\n", "\xff\xfe\0"]
)
def test_a_damaged_history_has_no_curve(content: str, tmp_path: Path) -> None:
    (make_run(tmp_path / "a") / "metrics.csv").write_text(content, encoding="latin-1")
    assert curves(tmp_path) == {}
