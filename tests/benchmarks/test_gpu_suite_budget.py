"""What the suite does with its time and its answers, with a GPU and processes that are made up."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from gpu_suite import __main__ as command
from gpu_suite import machine, processes
from gpu_suite.rows import rows

FACTS = {"gpu": "A GPU", "driver": "1", "torch": "2", "triton": "3", "cuda": "13", "capability": [9, 0]}
NOTHING = {"contenders": {}, "declined": {}, "complaints": []}


@pytest.fixture
def suite(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, dict[str, Any], list[Any]]]:
    """(exit code, document, what each call of `ask` was given) where `answered` of the points and all rows but two are
    answered, the first point with `complaints`, and trying the points takes `takes` seconds."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(machine, "machine", lambda: FACTS)

    def run(
        *arguments: str, answered: int = 10**6, takes: float = 0.0, complaints: Sequence[str] = (), row: Any = NOTHING
    ) -> tuple[int, dict[str, Any], list[Any]]:
        asked = []
        clock = [100.0]
        monkeypatch.setattr(command, "time", SimpleNamespace(monotonic=lambda: clock[0]))

        def ask(questions: Sequence[Any], command: Sequence[str], **how: Any) -> tuple[list[Any], list[Any]]:
            asked.append({"module": command[2], "count": len(questions), **how})
            if "case" not in questions[0]:
                return [(question, row) for question in questions[:-2]], list(questions[-2:])
            clock[0] += takes
            right = {"errors": {}, "verdict": "right", "complaints": [], "seconds": 1.0}
            pairs = [(question, dict(right)) for question in questions[:answered]]
            if complaints:
                pairs[0][1].update(verdict="wrong", complaints=list(complaints))
            return pairs, list(questions[answered:])

        monkeypatch.setattr(processes, "ask", ask)
        code = command.main(["--out", str(tmp_path / "out"), *arguments])
        return code, json.loads((tmp_path / "out" / "gpu_suite.json").read_text(encoding="utf-8")), asked

    return run


def test_correctness_has_a_share_and_the_benchmark_what_is_left(suite: Any) -> None:
    code, found, (points, measured) = suite("--seconds", "100", takes=30.0)
    assert code == 0
    assert (points["module"], measured["module"]) == ("gpu_suite.checking", "gpu_suite.benchmarking")
    assert points["seconds"] == pytest.approx((100 - command.ENDING) * command.SHARE)
    assert measured["seconds"] == pytest.approx(100 - command.ENDING - 30)
    assert measured["processes"] == 1, "for what runs beside it takes its time"
    assert found["seconds"] == 30.0
    assert found["verdicts"] == {"right": points["count"]}


def test_by_itself_it_ends_within_8_minutes(suite: Any) -> None:
    _, _, (points, measured) = suite()
    assert points["seconds"] < measured["seconds"] < 8 * 60 - 20


def test_what_there_was_no_time_for_is_said(suite: Any) -> None:
    code, found, (points, _) = suite(answered=3, takes=1.0)
    assert code == 0
    tried, measured = found["skipped"]
    assert tried["what"].startswith(f"{points['count'] - 3} points (")
    assert "any/128 float32" in tried["what"]
    assert measured["what"] == f"2 rows ({rows()[-2]}, {rows()[-1]})"
    assert tried["why"] == measured["why"] == "the time was up"


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"complaints": ["output is off by 1"]}, ": output is off by 1"),
        ({"row": {**NOTHING, "complaints": ["triton is 0.5 from flash"]}}, "triton is 0.5 from flash"),
    ],
)
def test_what_is_wrong_is_exit_code_1(
    suite: Any, answers: dict[str, Any], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found, _ = suite(**answers)
    assert code == 1
    assert found["wrong"][0].endswith(says)
    assert f"{found['wrong'][0]}\n" in capsys.readouterr().out
