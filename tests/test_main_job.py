"""The main job as the README's first command runs it: what it must reach on the embedded default."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attnframe.data.sources import load_corpus

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run folder of `attnframe train`."""
    here = tmp_path_factory.mktemp("main_job")
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "ATTNFRAME_"))}
    # A home without credentials: a run of the tests must not reach anybody's account.
    environment["HOME"] = str(here)
    code = "from attnframe.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, "train"], cwd=here, env=environment, check=True, timeout=1800)
    (folder,) = (done.parent for done in here.glob("outputs/*/*/DONE"))
    return folder


@pytest.fixture(scope="module")
def results(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return content


def test_it_learns_the_task(results: dict[str, Any]) -> None:
    assert results["test/exact_match"] >= 0.98
    assert results["test/bleu"] >= 98
    assert results["train/steps_to_95"] <= results["train/steps"]


def test_the_harder_sets_are_harder(results: dict[str, Any]) -> None:
    assert min(results[f"test/{name}/exact_match"] for name in ("unseen_pairs", "composition", "longer")) < 0.98


def test_a_head_aligns_far_better_than_the_diagonal(results: dict[str, Any]) -> None:
    assert results["test/aer"] <= 0.15
    assert results["test/aer_perfect"] < results["test/aer"] < results["test/aer_diagonal"] / 2


def test_no_tested_source_is_in_training(folder: Path) -> None:
    with (folder / "predictions.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    sizes = {name: sum(row["set"] == name for row in rows) for name in {row["set"] for row in rows}}
    assert sizes == {"test": 2000, "unseen_pairs": 1000, "composition": 1000, "longer": 1000}
    trained_on = {pair.source for pair in load_corpus("grammar").sets["train"]}
    assert not trained_on & {row["source"] for row in rows}


def test_it_leaves_a_moderate_number_of_files_for_wandb(folder: Path) -> None:
    assert len([path for path in (folder / "wandb").rglob("*") if path.is_file()]) < 300
