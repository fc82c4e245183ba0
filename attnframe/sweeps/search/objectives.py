"""What a search is to make small or large."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnframe.errors import UserError, did_you_mean
from attnframe.training.metric_names import MONITORED

DIRECTIONS = ("minimize", "maximize")

# Of the last word of a key; where neither is in it the user has to say.
_SMALL = ("loss", "nll", "aer", "parameters", "seconds", "steps_to_95", "memory")
_LARGE = ("bleu", "chrf", "exact_match", "accuracy", "tokens_per_second", "precision", "recall")


@dataclass(frozen=True)
class Objective:
    """A key of results.json, and whether it is to be minimized or maximized."""

    key: str
    direction: str

    def __str__(self) -> str:
        return f"{self.direction} {self.key}"


def read_objectives(key: Any, direction: Any) -> list[Objective]:
    """The objectives of `hydra.sweeper.objective` and `.direction`, each one or a list. Raises `UserError`."""
    keys = [str(one) for one in key] if isinstance(key, Sequence) and not isinstance(key, str) else [str(key)]
    several = isinstance(direction, Sequence) and not isinstance(direction, str)
    directions = list(direction) if several else [direction] * len(keys)
    if len(directions) != len(keys) or not keys:
        raise UserError(
            f"hydra.sweeper.direction={direction}: there are {len(keys)} objectives, so it needs {len(keys)} of "
            f"{', '.join(DIRECTIONS)}"
        )
    if len(set(keys)) < len(keys):
        raise UserError(f"hydra.sweeper.objective={keys}: each may be there once")
    return [_objective(*pair) for pair in zip(keys, directions, strict=True)]


def _objective(key: str, direction: Any) -> Objective:
    place = f"hydra.sweeper.objective={key}"
    if key.startswith("test/"):
        raise UserError(
            f"{place}: settings chosen by a test set are fitted to it, and its score is no test any more; take "
            f"val/{key.rpartition('/')[2]}"
        )
    if key.startswith("val/") and key not in MONITORED:
        raise UserError(f"{place}: there is no such score: {did_you_mean(key, MONITORED)}")
    if direction is None:
        direction = _usual_direction(key)
        if direction is None:
            raise UserError(f"{place}: say whether it is to be small or large: hydra.sweeper.direction=minimize")
    if direction not in DIRECTIONS:
        raise UserError(f"hydra.sweeper.direction={direction}: {did_you_mean(str(direction), DIRECTIONS)}")
    return Objective(key, str(direction))


def _usual_direction(key: str) -> str | None:
    word = key.rpartition("/")[2]
    if any(known in word for known in _SMALL):
        return "minimize"
    return "maximize" if any(known in word for known in _LARGE) else None


def values_of(results: Mapping[str, Any], objectives: Sequence[Objective]) -> list[float] | str:
    """The score of each objective in the results of a run, or what is wrong with them."""
    values = []
    for objective in objectives:
        value = results.get(objective.key)
        if objective.key not in results:
            return f"results.json has no {objective.key!r}: {did_you_mean(objective.key, results)}"
        if not isinstance(value, int | float) or not math.isfinite(value):
            # What is not finite is null in JSON.
            return f"{objective.key} is no finite number"
        values.append(float(value))
    return values
