"""A job of a sweep: what it is, what will be done about it, and how it stands after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnframe.model import AttentionFactory
from attnframe.sweeps.identity import Identity


@dataclass(frozen=True)
class Job:
    """One run of a sweep. `name` is what tells it from the others, as one writes it.

    `refused` says why it cannot be built; it then has no identity and no folder.
    """

    name: str
    overrides: tuple[str, ...]
    settings: Mapping[str, Any]
    attention: AttentionFactory | None = None
    identity: Identity | None = None
    folder: Path | None = None
    refused: str = ""


@dataclass(frozen=True)
class Planned:
    """A job and what will be done about it.

    `action` is "done" (nothing), "go on" (from its last checkpoint), "try again" (it has failed), "changed" (done or
    begun before with what `reason` says was different: in a new folder), "new" or "refused" (for `reason`).
    """

    job: Job
    action: str
    reason: str = ""

    @property
    def is_to_run(self) -> bool:
        """Whether the job has to be handed to the launcher."""
        return self.action not in ("done", "refused")


@dataclass(frozen=True)
class Ended:
    """How a job stands after the sweep: its marker, its flat results if it is DONE, else the reason.

    The marker is "" for a job that was killed or never began, and for one that was refused. Where there is a reason
    beside results, these could not be put on record.
    """

    job: Job
    marker: str
    results: Mapping[str, Any] | None = None
    reason: str = ""
