"""`trial.json`: what a run's folder says of the trial that it is, for the worker that runs it, wherever that is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from attnframe.runs.folder import write_whole

TRIAL_FILE = "trial.json"


@dataclass(frozen=True)
class Assignment:
    """Trial `number` (`id` in the storage) of a study that plans `planned`; `pruner` is null where nothing is pruned.

    `objective` is the score that is reported while the run trains.
    """

    storage: str
    study: str
    number: int
    id: int
    planned: int
    objective: str
    pruner: Mapping[str, Any] | None

    def write(self, folder: Path) -> None:
        """Leave it in the folder of the run."""
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / TRIAL_FILE, json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Assignment | None:
        """That of the run in `folder`; None for one that is no trial."""
        try:
            text = (folder / TRIAL_FILE).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        return cls(**json.loads(text))
