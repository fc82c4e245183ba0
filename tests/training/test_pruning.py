"""A run that is ended on advice: asked at each validation, ended at a whole step, and able to go on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import metric_rows, surroundings, tiny_settings

from attnframe.runs import building
from attnframe.training.pruning import Pruned, SearchTrial
from attnframe.training.run import complete

TINY = (
    "model.num_layers=1",
    "model.d_model=16",
    "data.val_size=5",
    "data.test_size=3",
    "data.held_out_size=3",
    "trainer.max_steps=15",
    "trainer.val_check_interval=4",
    "callbacks.patterns.sentences=0",
    "callbacks.patterns.statistics=0",
)


class Adviser:
    """Remembers what it was told, and advises to end the run after `last` steps."""

    def __init__(self, last: int) -> None:
        self.last = last
        self.told: dict[int, dict[str, float]] = {}

    def __call__(self, step: int, scores: Mapping[str, float]) -> str | None:
        assert step not in self.told
        self.told[step] = dict(scores)
        return f"enough after {step}" if step >= self.last else None


def tiny_complete(path: Path, adviser: Adviser | None) -> dict[str, Any]:
    with surroundings(path):
        chosen = tiny_settings(*TINY)
        trial = None if adviser is None else SearchTrial({"study": "s", "trial": 7, "trials": 30}, adviser)
        return complete(chosen, path, building.attention_factory(chosen), trial=trial)


def test_a_run_ends_where_it_is_advised_to(tmp_path: Path) -> None:
    adviser = Adviser(8)
    with pytest.raises(Pruned, match="enough after 8"):
        tiny_complete(tmp_path, adviser)
    validated = {int(row["step"]): row for row in metric_rows(tmp_path) if row["val/loss"]}
    assert list(validated) == list(adviser.told) == [4, 8]
    for step, scores in adviser.told.items():
        assert float(validated[step]["val/loss"]) == pytest.approx(scores["val/loss"])
    assert (tmp_path / "INTERRUPTED").exists()
    assert (tmp_path / "error.txt").read_text(encoding="utf-8") == "enough after 8\n"
    assert (tmp_path / "report.html").exists()
    assert not (tmp_path / "results.json").exists()
    for name in ("last", "best"):
        assert torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True)["global_step"] == 8
    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["search"] == {"study": "s", "trial": 7, "trials": 30}


@pytest.mark.slow
def test_a_run_that_was_ended_can_go_on_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = tiny_complete(tmp_path / "whole", None)
    with pytest.raises(Pruned):
        tiny_complete(tmp_path / "ended", Adviser(4))
    adviser = Adviser(100)
    results = tiny_complete(tmp_path / "ended", adviser)
    # The last step's validation comes after the training, and is told like any other.
    assert list(adviser.told) == [8, 12, 15]
    assert results["val/loss"] == whole["val/loss"]
    assert (tmp_path / "ended" / "DONE").exists()
    assert not (tmp_path / "ended" / "error.txt").exists()


@pytest.mark.slow
def test_after_the_last_step_there_is_nothing_to_end(tmp_path: Path) -> None:
    adviser = Adviser(15)
    assert tiny_complete(tmp_path, adviser)["val/loss"] == pytest.approx(
        min(s["val/loss"] for s in adviser.told.values())
    )
    assert (tmp_path / "DONE").exists()
