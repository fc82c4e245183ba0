"""Real runs of a second, in this process, in a folder and an environment of their own."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from attnframe.cli import composition, settings
from attnframe.runs import building
from attnframe.training.data_module import TranslationData
from attnframe.training.run import resume, run

SMALL = (
    "debug=fast",
    "data.train_size=300",
    "data.val_size=13",
    "data.test_size=11",
    "data.held_out_size=7",
    "data.max_tokens=1500",
    "model.d_model=32",
    "model.num_heads=2",
    "model.d_ff=48",
    "trainer.enable_progress_bar=false",
)


def tiny_settings(*overrides: str) -> dict[str, Any]:
    """The settings of a tiny run, as `attnframe train` would compose them."""
    composition.prepare()
    return settings.plain(composition.compose_config([*SMALL, *overrides]))


def tiny_data(*overrides: str) -> TranslationData:
    """The data of a tiny run."""
    chosen = tiny_settings(*overrides)
    return TranslationData(chosen["data"], seed=chosen["seed"])


def tiny_run(path: Path, *overrides: str) -> dict[str, Any]:
    """Train in the folder `path`; the results."""
    with surroundings(path):
        chosen = tiny_settings(*overrides)
        return run(chosen, path, building.attention_factory(chosen))


def tiny_resume(path: Path, **limits: Any) -> dict[str, Any]:
    """Go on with the run in `path`, with other limits if some are given; the results."""
    with surroundings(path):
        chosen = json.loads((path / "manifest.json").read_text(encoding="utf-8"))["settings"]
        chosen["trainer"] |= limits
        attention = building.attention_factory(chosen)
        return resume(chosen, path, attention, limits=limits, going_on=lambda step: None)


@contextmanager
def surroundings(path: Path) -> Iterator[None]:
    """The folder, home and environment of someone without plugins, settings or credentials."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(path.parent)
        patch.setenv("ATTNFRAME_PLUGINS", "")
        patch.setenv("HOME", str(path.parent))
        for name in ("ATTNFRAME_LAUNCH", "HYDRA_FULL_ERROR", "PL_GLOBAL_SEED", "PL_SEED_WORKERS"):
            patch.setenv(name, "0")
        yield


def metric_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a run's metrics.csv."""
    with (path / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def filled(rows: list[dict[str, str]], column: str) -> dict[int, float]:
    """The values of one column by step, rows without one left out."""
    return {int(row["step"]): float(row[column]) for row in rows if row[column]}
