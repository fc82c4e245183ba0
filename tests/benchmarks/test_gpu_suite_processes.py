"""Questions to child processes that answer, die, or are not done when time is up."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest
from gpu_suite.processes import MOST_DEATHS, Answer, Question, ask

CHILD = """
import os, sys, time
sys.path.insert(0, {place!r})
from gpu_suite.processes import serve

def answer(question):
    print("this is no answer")
    match question["do"]:
        case "die":
            print("a last word", file=sys.stderr)
            sys.stderr.flush()
            os._exit(7)
        case "sleep":
            time.sleep(60)
        case "last":
            return {{"pid": os.getpid(), "last": True}}
    return {{"pid": os.getpid(), "twice": 2 * question["n"], "told": os.environ.get("TOLD")}}

serve(answer)
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    script = tmp_path / "child.py"
    script.write_text(CHILD.format(place=str(Path(__file__).parents[2] / "benchmarks")), encoding="utf-8")
    return [sys.executable, str(script)]


def questions(*what: str) -> list[Question]:
    return [{"do": do, "n": n} for n, do in enumerate(what)]


def test_every_question_is_answered_once_by_several_processes(command: list[str]) -> None:
    told: list[tuple[Question, Answer]] = []
    answered, left = ask(
        questions(*["double"] * 7),
        command,
        processes=2,
        seconds=60,
        environment={"TOLD": "yes"},
        told=lambda question, answer: told.append((question, answer)),
    )
    assert left == []
    assert told == answered
    assert sorted((question["n"], answer["twice"]) for question, answer in answered) == [(n, 2 * n) for n in range(7)]
    assert {answer["told"] for _, answer in answered} == {"yes"}


def test_a_process_that_dies_costs_one_answer(command: list[str]) -> None:
    answered, left = ask(questions("double", "die", "double"), command, processes=1, seconds=60)
    assert left == []
    (_, before), (question, died), (_, after) = answered
    assert question["do"] == "die"
    assert died == {"died": "the process ended with 7: a last word"}
    assert after["twice"] == 4
    assert before["pid"] != after["pid"]


def test_after_its_last_answer_there_is_another_process(command: list[str]) -> None:
    answered, _ = ask(questions("last", "double"), command, processes=1, seconds=60)
    (_, last), (_, after) = answered
    assert last.keys() == {"pid"}
    assert last["pid"] != after["pid"]


def test_where_all_die_it_gives_up(command: list[str]) -> None:
    answered, left = ask(questions(*["die"] * 6), command, processes=1, seconds=60)
    assert len(answered) == MOST_DEATHS
    assert [question["n"] for question in left] == [3, 4, 5]


@pytest.mark.parametrize("patience", [30.0, 0.0])
def test_when_time_is_up_it_ends_and_says_what_is_left(command: list[str], patience: float) -> None:
    begun = time.monotonic()
    answered, left = ask(questions("sleep", "double"), command, processes=1, seconds=1.0, patience=patience)
    assert time.monotonic() - begun < 30
    assert answered == [] if patience else answered[0][1]["died"].startswith("no answer within ")
    assert [question["n"] for question in left] == ([0, 1] if patience else [1])


def test_without_time_nothing_is_asked(command: list[str]) -> None:
    answered, left = ask(questions("sleep", "double"), command, processes=1, seconds=-3.0)
    assert answered == []
    assert [question["n"] for question in left] == [0, 1]
