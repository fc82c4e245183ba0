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
    attnframe("train", cwd=here)
    (folder,) = (done.parent for done in here.glob("outputs/*/*/DONE"))
    return folder


def attnframe(*arguments: str, cwd: Path) -> None:
    """Run a command with `cwd` as home: without credentials, for the tests must not reach anybody's account."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("WANDB_", "ATTNFRAME_"))}
    environment["HOME"] = str(cwd)
    code = "from attnframe.cli import main; main()"
    subprocess.run([sys.executable, "-c", code, *arguments], cwd=cwd, env=environment, check=True, timeout=1800)


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


def test_alignment_is_scored_by_contributions_and_by_phenomenon(results: dict[str, Any]) -> None:
    measures = ("aer", "aer_norms", "aer_diagonal", "aer_perfect")
    tags = {key.split("/")[2] for key in results if key.startswith("test/phenomenon/")}
    assert len(tags) > 10
    for prefix in ("test", *(f"test/phenomenon/{tag}" for tag in tags)):
        aer, norms, diagonal, perfect = (results[f"{prefix}/{name}"] for name in measures)
        assert perfect < min(aer, norms) <= max(aer, norms) < diagonal


def test_its_page_is_one_file_of_moderate_size(folder: Path) -> None:
    assert 100_000 < (folder / "report.html").stat().st_size < 3_000_000


def test_without_cross_attention_it_is_lost(folder: Path) -> None:
    attnframe("ablate", f"run={folder}", "set=test", "sentences=200", "mode=zero", cwd=folder.parent)
    with (folder / "ablation" / "ablation.csv").open(encoding="utf-8", newline="") as file:
        rows = {(row["what"], row["site"]): row for row in csv.DictReader(file) if row["what"] == "site"}
    assert float(rows["site", "cross"]["bleu"]) < 5
    assert float(rows["site", "cross"]["loss_change"]) > float(rows["site", "encoder_self"]["loss_change"]) > 0


def test_no_tested_source_is_in_training(folder: Path) -> None:
    with (folder / "predictions.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    sizes = {name: sum(row["set"] == name for row in rows) for name in {row["set"] for row in rows}}
    assert sizes == {"test": 2000, "unseen_pairs": 1000, "composition": 1000, "longer": 1000}
    trained_on = {pair.source for pair in load_corpus("grammar").sets["train"]}
    assert not trained_on & {row["source"] for row in rows}


def test_it_leaves_a_moderate_number_of_files_for_wandb(folder: Path) -> None:
    assert len([path for path in (folder / "wandb").rglob("*") if path.is_file()]) < 300
