from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnframe.patterns.alignment import Reading
from attnframe.patterns.head_alignment import HeadScore
from attnframe.runs.folder import RunFolder
from attnframe.training.evaluation import AlignmentChoice
from attnframe.training.scoring import recorded_choice, write_test_scores

HEAD = HeadScore(2, 3, Reading.NEXT_STEP, 0.25)
MEAN = HeadScore(1, None, Reading.PREDICTS, 0.5)
NORMS = HeadScore(0, 1, Reading.PREDICTS, 0.125)


@pytest.mark.parametrize("choice", [AlignmentChoice(HEAD, MEAN, NORMS), AlignmentChoice(HEAD, MEAN, None)])
def test_a_choice_that_was_written_down_is_read_back(choice: AlignmentChoice, tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    results = write_test_scores(folder, {}, choice)
    results |= {"test/aer": 0.25, "test/aer_mean_heads": 0.5}
    if choice.norms is not None:
        results["test/aer_norms"] = 0.125
    folder.write_json("results.json", results)
    assert recorded_choice(json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))) == choice


def test_results_without_alignments_hold_no_choice(tmp_path: Path) -> None:
    assert recorded_choice(write_test_scores(RunFolder(tmp_path), {}, None)) is None


def test_a_head_without_patterns_of_the_test_set_is_no_choice(tmp_path: Path) -> None:
    results = write_test_scores(RunFolder(tmp_path), {}, AlignmentChoice(HEAD, MEAN, NORMS))
    assert recorded_choice({**results, "test/aer_mean_heads": 0.5}) is None
    assert recorded_choice({**results, "test/aer": 0.25, "test/aer_mean_heads": 0.5}) == AlignmentChoice(
        HEAD, MEAN, None
    )
