"""Chances and choices from a seeded generator."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")


class Draws:
    """Every draw is one `random()`, the only method whose numbers no version of Python changes."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def number(self) -> float:
        """From 0 to 1, without 1."""
        return self._rng.random()

    def chance(self, probability: float) -> bool:
        """Whether it comes about."""
        return self._rng.random() < probability

    def pick(self, options: Sequence[T]) -> T:
        """One of them, each as likely as the others."""
        return options[int(self._rng.random() * len(options))]
