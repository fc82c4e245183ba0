"""How much work the jobs of a sweep are, from one of each kind timed for a moment on this machine."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass

from attnframe.sweeps.job import Job, Planned

_log = logging.getLogger(__name__)

# Each takes some seconds; further kinds are taken to cost as much as these on average.
_MOST_KINDS = 5


@dataclass(frozen=True)
class Estimate:
    """`seconds` of all jobs together, one after another; `timed` of `kinds` different ones were tried.

    None where a run sets itself no end, or none could be tried.
    """

    seconds: float | None
    timed: int
    kinds: int


def estimate(plan: Sequence[Planned]) -> Estimate:
    """The time that the jobs to run will take. Jobs that differ by their seed alone are one kind.

    A job that goes on from a checkpoint counts as a whole one.
    """
    # Here and not above: Lightning takes seconds to import.
    from attnframe.training.data_module import TranslationData
    from attnframe.training.estimate import estimate_seconds

    kinds: dict[str, list[Job]] = {}
    for planned in plan:
        if planned.is_to_run:
            kinds.setdefault(_kind(planned.job), []).append(planned.job)
    data: dict[str, TranslationData] = {}
    seconds: list[float] = []
    weights: list[int] = []
    for jobs in _spread(list(kinds.values()), _MOST_KINDS):
        settings, attention = jobs[0].settings, jobs[0].attention
        assert attention is not None
        try:
            key = json.dumps(settings["data"], sort_keys=True, default=str)
            if key not in data:
                # One at a time: a large corpus is held in memory.
                data = {key: TranslationData(settings["data"], seed=settings["seed"])}
            found = estimate_seconds(settings, attention, data[key])
        except (Exception, SystemExit) as error:
            # A variant's code or a full memory: the job itself will say so, and the others have nothing to do with it.
            _log.info("%s could not be timed", jobs[0].name, exc_info=error)
            continue
        if found is None:
            return Estimate(None, len(seconds), len(kinds))
        seconds.append(found)
        weights.append(len(jobs))
    if not seconds:
        return Estimate(None, 0, len(kinds))
    mean = sum(second * weight for second, weight in zip(seconds, weights, strict=True)) / sum(weights)
    return Estimate(mean * sum(map(len, kinds.values())), len(seconds), len(kinds))


def _spread(kinds: Sequence[list[Job]], most: int) -> Sequence[list[Job]]:
    """At most so many of them, from the first to the last at equal distances."""
    # A sweep goes through one choice after the other: the first few may all be of one variant.
    if len(kinds) <= most:
        return kinds
    return [kinds[round(number * (len(kinds) - 1) / (most - 1))] for number in range(most)]


def _kind(job: Job) -> str:
    return json.dumps({key: value for key, value in job.settings.items() if key != "seed"}, sort_keys=True, default=str)
