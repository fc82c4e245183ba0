"""What a sweep is handed from above: how to make a run, and what to say around many of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from omegaconf import DictConfig

from attnframe.model import AttentionFactory
from attnframe.sweeps.estimating import Estimate
from attnframe.sweeps.job import Ended, Job, Planned
from attnframe.sweeps.sweep_folder import SweepFolder


class Task(Protocol):
    """What a sweep calls: a run, and the words and pictures around many of them."""

    def settings(self, config: DictConfig) -> tuple[dict[str, Any], AttentionFactory]:
        """The plain settings of a run and what builds its attention. Raises `UserError` for what cannot be built."""

    def show_plan(self, folder: SweepFolder, plan: Sequence[Planned], config: DictConfig) -> None:
        """Say what will be done, and where: `config` is that of the whole sweep, with Hydra's own node."""

    def show_estimate(self, find: Callable[[], Estimate]) -> None:
        """Say how long it will take, as `find` finds out in some seconds."""

    def watching(self, jobs: Sequence[Job]) -> AbstractContextManager[object]:
        """Show how far the jobs are while the body runs."""

    def show_ended(self, folder: SweepFolder, ended: Sequence[Ended]) -> None:
        """Say how every job stands."""
