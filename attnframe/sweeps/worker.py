"""What a worker of any launcher does: one job, in the folder that the sweep has prepared for it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attnframe.model import AttentionFactory
from attnframe.sweeps.sweep_folder import JobRecord, SweepFolder


def is_prepared(folder: Path) -> bool:
    """Whether a folder was made for a job by a sweep of ours."""
    return JobRecord.read(folder) is not None


def do_job(settings: Mapping[str, Any], folder: Path, attention: AttentionFactory) -> dict[str, Any]:
    """Bring the job in `folder` to its end, put its results on record, and return them.

    Raises as `training.run.run` does.
    """
    # Here and not above: Lightning takes seconds to import, which planning a sweep must not cost.
    from attnframe.training.run import complete

    results = complete(settings, folder, attention)
    SweepFolder(folder.parent).record(folder)
    return results
