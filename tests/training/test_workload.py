from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from tiny_run import filled, metric_rows, tiny_data, tiny_run, tiny_settings

from attnframe.training.workload import Workload, limited

TRAINER: dict[str, Any] = {
    "max_steps": -1,
    "max_epochs": None,
    "max_time": None,
    "val_check_interval": 100,
    "check_val_every_n_epoch": None,
    "limit_train_batches": None,
    "limit_val_batches": None,
    "limit_test_batches": None,
    "accumulate_grad_batches": 1,
}


def workload(**changes: Any) -> Workload:
    return Workload.of({**TRAINER, **changes}, train=30, val=7, tests=[5, 3])


@pytest.mark.parametrize(
    ("changes", "steps", "validations"),
    [
        ({"max_steps": 1000}, 1000, 10),
        ({"max_steps": 1001}, 1001, 11),
        # Shorter than the interval: it validates in the end.
        ({"max_steps": 7}, 7, 1),
        # The interval counts batches, two of which make a step here.
        ({"max_steps": 1000, "accumulate_grad_batches": 2}, 1000, 20),
        ({"max_epochs": 4}, 120, 2),
        ({"max_epochs": 4, "max_steps": 50}, 50, 1),
        ({"max_epochs": 4, "accumulate_grad_batches": 7}, 20, 2),
        ({"max_epochs": 4, "limit_train_batches": 0.5}, 60, 1),
        ({"max_epochs": 4, "limit_train_batches": 11}, 44, 1),
        ({"max_epochs": 4, "val_check_interval": None}, 120, 4),
        ({"max_epochs": 4, "val_check_interval": None, "check_val_every_n_epoch": 2}, 120, 2),
        # After 7, 14, 21 and 28 of each 30, and after the last.
        ({"max_epochs": 4, "val_check_interval": 0.25}, 120, 17),
        ({"max_steps": 51, "val_check_interval": 0.25}, 51, 7),
        ({"max_steps": 100, "val_check_interval": None, "check_val_every_n_epoch": 2}, 100, 2),
        ({"max_epochs": 4, "val_check_interval": 10, "check_val_every_n_epoch": 1}, 120, 12),
        ({}, math.inf, math.inf),
        ({"max_time": "00:00:05:00"}, math.inf, math.inf),
    ],
)
def test_steps_and_validations(changes: dict[str, Any], steps: float, validations: float) -> None:
    counted = workload(**changes)
    assert (counted.steps, counted.validations) == (steps, validations)


def test_a_limit_is_a_number_or_a_share() -> None:
    assert [limited(7, limit) for limit in (None, 3, 99, 1.0, 0.5, 0.1)] == [7, 3, 7, 7, 3, 0]
    counted = workload(max_steps=1, limit_val_batches=2, limit_test_batches=0.6)
    assert (counted.val_batches, counted.test_batches) == (2, (3, 1))


def test_seconds_by_hand() -> None:
    took = {"step": 2.0, "val_batch": 3.0, "test_batches": [11.0, 13.0]}
    tests = 5 * 11 + 3 * 13
    # 250 steps, validations after 100, 200 and 250, and one of the best state.
    assert workload(max_steps=250).seconds(**took) == 250 * 2 + (3 + 1) * 7 * 3 + tests
    assert workload(max_steps=250, max_time="00:00:05:07").seconds(**took) == 307 + 7 * 3 + tests
    assert workload(max_time="01:02:00:00").seconds(**took) == 26 * 3600 + 7 * 3 + tests
    assert workload(max_steps=250, max_time="01:00:00:00").seconds(**took) == workload(max_steps=250).seconds(**took)
    assert workload().seconds(**took) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        ("trainer.max_steps=7", "trainer.val_check_interval=3"),
        ("trainer.max_steps=6", "trainer.val_check_interval=3", "trainer.accumulate_grad_batches=2"),
        ("trainer.max_steps=-1", "trainer.max_epochs=2", "trainer.val_check_interval=null"),
        ("trainer.max_steps=-1", "trainer.max_epochs=2", "trainer.val_check_interval=0.5"),
    ],
)
def test_a_real_run_does_so_much(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    path = tmp_path / "run"
    path.mkdir()
    results = tiny_run(path, *overrides, "callbacks.patterns.sentences=0")
    data = tiny_data(*overrides)
    counted = Workload.of(tiny_settings(*overrides)["trainer"], train=len(data.train_dataloader()), val=1, tests=[])
    assert results["train/steps"] == counted.steps
    assert len(filled(metric_rows(path), "val/loss")) == counted.validations
