"""Questions that child processes answer: one that dies costs one answer, and when time is up all are ended."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

Question = dict[str, Any]
Answer = dict[str, Any]

MOST_DEATHS = 3
"""So many children that die one after the other, and nothing more is asked."""


def serve(answer: Callable[[Question], Answer]) -> None:
    """In the child: an answer, as a line of JSON, to each line of standard input.

    An answer with `"last": True` is the last of this process, for its GPU is lost to it.
    """
    # Whatever else is printed goes where errors go.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        found = answer(json.loads(line))
        print(json.dumps(found), file=answers, flush=True)
        if found.get("last"):
            sys.exit()


def ask(
    questions: Sequence[Question],
    command: Sequence[str],
    *,
    processes: int,
    seconds: float,
    environment: dict[str, str] | None = None,
    patience: float = 60.0,
    told: Callable[[Question, Answer], None] = lambda question, answer: None,
) -> tuple[list[tuple[Question, Answer]], list[Question]]:
    """(answered, left): each question with its answer in the order of the answers, and those there was no time for.

    Questions are taken from the front by whoever is free. Where a child died or had no answer after `patience` seconds
    when time was up, the answer is {"died": why}.
    """
    pool = _Pool(questions, command, environment, patience, told)
    timer = threading.Timer(max(seconds, 0.0), pool.stop)
    timer.daemon = True
    timer.start()
    threads = [threading.Thread(target=pool.work, daemon=True) for _ in range(min(processes, len(questions)))]
    for thread in threads:
        thread.start()
    try:
        for thread in threads:
            thread.join()
    finally:
        timer.cancel()
        pool.stop()
    return pool.answered, pool.left + list(pool.waiting)


class _Pool:
    def __init__(
        self,
        questions: Sequence[Question],
        command: Sequence[str],
        environment: dict[str, str] | None,
        patience: float,
        told: Callable[[Question, Answer], None],
    ) -> None:
        self.waiting = deque(questions)
        self.answered: list[tuple[Question, Answer]] = []
        self.left: list[Question] = []
        self._command = list(command)
        self._environment = {**os.environ, **(environment or {})}
        self._patience = patience
        self._told = told
        self._children: set[_Child] = set()
        self._lock = threading.Lock()
        self._over = False
        self._deaths = 0

    def stop(self) -> None:
        """Ends all children, and with them all work."""
        with self._lock:
            self._over = True
            children = list(self._children)
        for child in children:
            child.kill()

    def work(self) -> None:
        child: _Child | None = None
        while (question := self._next()) is not None:
            begun = time.monotonic()
            child = child or self._start()
            answer = child.ask(question) if child is not None else None
            with self._lock:
                if answer is not None:
                    self._deaths = 0
                elif self._over and time.monotonic() - begun < self._patience:
                    self.left.append(question)
                    continue
                elif self._over:
                    answer = {"died": f"no answer within {time.monotonic() - begun:.0f} s"}
                else:
                    self._deaths += 1
                    answer = {"died": child.last_words() if child is not None else "the process did not start"}
                self.answered.append((question, answer))
                self._told(question, answer)
            if child is not None and ("died" in answer or answer.pop("last", False)):
                self._forget(child)
                child = None
        if child is not None:
            self._forget(child)

    def _next(self) -> Question | None:
        with self._lock:
            done = self._over or self._deaths >= MOST_DEATHS or not self.waiting
            return None if done else self.waiting.popleft()

    def _start(self) -> _Child | None:
        with self._lock:
            if self._over:
                return None
            child = _Child(self._command, self._environment)
            self._children.add(child)
            return child

    def _forget(self, child: _Child) -> None:
        child.end()
        with self._lock:
            self._children.discard(child)


class _Child:
    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `end`
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )

    def ask(self, question: Question) -> Answer | None:
        """None when the process ends without an answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps(question), file=self._process.stdin, flush=True)
            answer: Answer = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            return None
        return answer

    def last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors if line.strip()]
        return f"the process ended with {code}" + (f": {lines[-1]}" if lines else "")

    def kill(self) -> None:
        self._process.kill()

    def end(self) -> None:
        self._process.kill()
        with self._process:
            self._errors.close()
