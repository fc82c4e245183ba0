"""What a worker of any launcher does: one job, in the folder that the sweep has prepared for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnframe.model import AttentionFactory
from attnframe.sweeps.search.assignment import TRIAL_FILE
from attnframe.sweeps.sweep_folder import JobRecord, SweepFolder

if TYPE_CHECKING:
    from attnframe.training.pruning import SearchTrial


def is_prepared(folder: Path) -> bool:
    """Whether a folder was made for a job by a sweep of ours."""
    return JobRecord.read(folder) is not None


def do_job(settings: Mapping[str, Any], folder: Path, attention: AttentionFactory) -> dict[str, Any]:
    """Bring the job in `folder` to its end, put its results on record, and return them.

    Raises as `training.run.run` does; a trial that a search ends before its time raises `training.pruning.Pruned`.
    """
    # Here and not above: Lightning takes seconds to import, which planning a sweep must not cost.
    from attnframe.training.run import complete

    results = complete(settings, folder, attention, trial=_trial(folder))
    SweepFolder(folder.parent).record(folder)
    return results


def _trial(folder: Path) -> SearchTrial | None:
    """The part of the job in a search, if it has one."""
    if not (folder / TRIAL_FILE).exists():
        return None
    # Here and not above: most jobs are none, and need no Optuna.
    from attnframe.sweeps.search.pruning import search_trial

    return search_trial(folder)
