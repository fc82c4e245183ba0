"""The watch on the greatest score of each head."""

from __future__ import annotations

import logging
import math

import pytest
import torch
from torch import Tensor

from attnframe.attention import RecordedRows
from attnframe.backends import RowStatistics
from attnframe.training.max_scores import COLUMNS, MaxScores
from attnframe.training.world import World

REAL = {"encoder_self": torch.tensor([[True, True, False]]), "cross": torch.tensor([[True, False]])}


def rows_of(encoder: list[list[float]], *cross: list[list[float]]) -> RecordedRows:
    """A sentence with three source and two target tokens, of which the last are padding; a call for each of `cross`."""
    rows = RecordedRows()
    for site, scores in (("encoder_self", encoder), *(("cross", scores) for scores in cross)):
        greatest = torch.tensor([scores])
        rows.add((site, 0), RowStatistics(greatest.clone(), greatest, torch.zeros_like(greatest)))
    return rows


# Two heads, a row for each: the last number of a row is that of padding.
FIRST = rows_of([[1.0, 4.0, 99.0], [2.0, 3.0, 99.0]], [[6.0, 99.0], [-math.inf, 99.0]])
SECOND = rows_of([[3.0, 2.0, 99.0], [5.5, 0.0, 99.0]], [[5.0, 99.0], [1.0, 99.0]])


def test_the_greatest_of_each_head_over_the_batches_since_it_was_asked() -> None:
    watch = MaxScores(3.5)
    watch.add(FIRST, REAL)
    watch.add(SECOND, REAL)
    # 4 and 5.5 in the encoder, 6 and 1 in cross.
    expected = {"train/max_score/encoder_self": 5.5, "train/max_score/cross": 6.0, "train/heads_above_threshold": 3.0}
    assert watch.scores() == expected
    assert expected.keys() < set(COLUMNS)
    watch.add(FIRST, REAL)
    again = {"train/max_score/encoder_self": 4.0, "train/max_score/cross": 6.0, "train/heads_above_threshold": 2.0}
    assert watch.scores() == again


def test_a_variant_that_attends_twice_has_twice_the_heads() -> None:
    watch = MaxScores(3.5)
    watch.add(rows_of([[0.0] * 3], [[6.0, 99.0], [1.0, 99.0]], [[4.0, 99.0], [7.0, 99.0]]), REAL)
    scores = watch.scores()
    assert scores["train/max_score/cross"] == 7.0
    assert scores["train/heads_above_threshold"] == 3.0


def test_heads_are_named_in_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
    watch = MaxScores(3.5)
    with caplog.at_level(logging.WARNING):
        watch.add(FIRST, REAL)
        watch.scores()
        watch.add(SECOND, REAL)
        watch.scores()
        watch.add(FIRST, REAL)
        watch.scores()
    told = "scores above callbacks.max_score.threshold=3.5 (layers and heads counted from 1)"
    assert caplog.messages == [
        f"{told}: encoder_self layer 1 head 1 (4), cross layer 1 head 1 (6)",
        f"{told}: encoder_self layer 1 head 2 (5.5)",
    ]


def test_going_on_between_two_rows_is_as_if_it_had_not_stopped() -> None:
    whole, part, rest = (MaxScores(3.5) for _ in range(3))
    for watch in (whole, part):
        watch.add(FIRST, REAL)
    rest.load_state_dict(part.state_dict())
    for watch in (whole, rest):
        watch.add(SECOND, REAL)
    assert rest.scores() == whole.scores()


class Together(World):
    """A process beside one whose greatest scores are these."""

    def __init__(self, others: list[float]) -> None:
        super().__init__(rank=1, size=2)
        self._others = torch.tensor(others)

    def greatest(self, values: Tensor) -> Tensor:
        return torch.maximum(values, self._others)


def test_every_process_knows_the_greatest_of_all(caplog: pytest.LogCaptureFixture) -> None:
    watch = MaxScores(3.5, Together([0.0, 8.0, 0.0, 2.0]))
    watch.add(FIRST, REAL)
    scores = watch.scores()
    assert (scores["train/max_score/encoder_self"], scores["train/max_score/cross"]) == (8.0, 6.0)
    assert scores["train/heads_above_threshold"] == 3.0
    # The first process tells.
    assert not caplog.messages
