"""What a worker of any launcher does: one job, in the folder that the sweep has prepared for it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnframe.errors import UserError
from attnframe.model import AttentionFactory
from attnframe.sources import source_digest
from attnframe.sweeps.search.assignment import TRIAL_FILE
from attnframe.sweeps.sources import source_files
from attnframe.sweeps.sweep_folder import JobRecord, SweepFolder

if TYPE_CHECKING:
    from attnframe.training.pruning import SearchTrial


def is_prepared(folder: Path) -> bool:
    """Whether a folder was made for a job by a sweep of ours."""
    return JobRecord.read(folder) is not None


def check_sources(folder: Path, attention: AttentionFactory) -> None:
    """Refuse, in a process that has loaded its variants itself, code that is not what the job in `folder` stands for.

    A job may wait for hours until its worker begins, and a variant may be edited meanwhile. Raises `UserError`.
    """
    record = JobRecord.read(folder)
    planned = record.identity.sources if record else {}
    changed = [
        name
        for name, file in source_files(attention).items()
        if name in planned and _digest_when_loaded(file) != planned[name]
    ]
    if changed:
        raise UserError(
            f"{', '.join(changed)} changed since the sweep was planned, so this job cannot be run any more; the same "
            f"command again plans it as it is now"
        )


@cache
def _digest_when_loaded(file: Path) -> str:
    # Once in a process: what is edited after it was loaded changes nothing here.
    return source_digest(file)


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
