"""Finding out what is to be done about each job of a sweep, and having it done through any launcher of Hydra."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext
from omegaconf import DictConfig, open_dict, read_write

from attnframe import discovery
from attnframe.attention.raising import one_line, words_and_place
from attnframe.errors import UserError, VariantFailed
from attnframe.runs.folder import RunFolder
from attnframe.sweeps.identity import Identities
from attnframe.sweeps.job import Ended, Job, Planned
from attnframe.sweeps.slurm_queue import watch_the_queue
from attnframe.sweeps.sweep_folder import JobRecord, SweepFolder, marker_of
from attnframe.sweeps.task import Task

_log = logging.getLogger(__name__)


class SweepJobs:
    """Prepares jobs and runs them through a launcher; what both sweepers are made of."""

    def __init__(self, context: HydraContext, config: DictConfig, launcher: Launcher, *, retries: int) -> None:
        self.folder = SweepFolder(Path(config.hydra.sweep.dir).absolute())
        self._context, self._config, self._launcher = context, config, launcher
        self._retries = retries
        self._identities = Identities()
        self._launched = 0

    def prepare(self, overrides: Sequence[str], task: Task, *, name: str) -> Job:
        """The job of one list of overrides; a config that cannot be composed raises Hydra's own exception."""
        config = self._context.config_loader.load_sweep_config(self._config, list(overrides))
        with open_dict(config):
            config.hydra.job.id = config.hydra.job.num = 0
        HydraConfig.instance().set_config(config)
        run = copy.deepcopy(config)
        with read_write(run), open_dict(run):
            del run["hydra"]
        try:
            settings, attention = task.settings(run)
            identity = self._identities.of(settings, attention)
        except (UserError, VariantFailed) as error:
            return Job(name, tuple(overrides), {}, refused=str(error))
        except (Exception, SystemExit) as error:
            # A variant with a mistake in it must not cost the jobs of the others.
            _log.info("%s cannot be built", name, exc_info=error)
            return Job(name, tuple(overrides), {}, refused=f"it cannot be built: {words_and_place(error)}")
        return Job(name, tuple(overrides), settings, attention, identity, self.folder.folder_of(identity, name))

    def planned(self, job: Job) -> Planned:
        """What is to be done about a job."""
        if job.identity is None or job.folder is None:
            return Planned(job, "refused", job.refused)
        marker = marker_of(job.folder)
        if marker == "DONE":
            return Planned(job, "done")
        if marker == "FAILED":
            return Planned(job, "try again", RunFolder(job.folder).last_error)
        if RunFolder(job.folder).has_begun:
            return Planned(job, "go on", "it was stopped" if marker else "it was cut off")
        for _, before in self.folder.others_with_config(job.identity):
            changed = [
                name.replace(f"{discovery.MODULE_PREFIX}.", "plugin ") for name in job.identity.changed_since(before)
            ]
            return Planned(job, "changed", f"{', '.join(changed)} changed since")
        return Planned(job, "new")

    def run(self, plan: Sequence[Planned]) -> list[Ended]:
        """Have every job done that is to be; how each stands then. One that fails stops no other.

        A job that was cut off, with its worker or the whole launcher, is handed over again `retries` times.
        """
        left = [planned.job for planned in plan if planned.is_to_run]
        for job in (planned.job for planned in plan):
            # Also where it is done: without what it is, its results could not be put on record.
            if job.identity is not None and job.folder is not None and JobRecord.read(job.folder) is None:
                JobRecord(job.identity, job.overrides).write(job.folder)
        problem: Exception | None = None
        for attempt in range(1 + self._retries):
            if not left:
                break
            if attempt:
                _log.warning("%d jobs were cut off and are run again: %s", len(left), problem or "their workers ended")
            before = {job.folder: _end_of(job) for job in left}
            problem = self._launch(left)
            # One that still bears the marker of an earlier time has not come as far as to take it back.
            cut_off = [job for job in left if (end := _end_of(job)) is None or end == before[job.folder]]
            nothing_ran = not attempt and len(cut_off) == len(left) and not any(map(_has_begun, left))
            if problem is not None and nothing_ran:
                raise UserError(f"hydra/launcher: no job could be started: {one_line(problem)}") from problem
            left = cut_off
        ended = [self._ended(planned.job, problem, is_left=planned.job in left) for planned in plan]
        for number, outcome in enumerate(ended):
            if outcome.results is not None and outcome.job.folder is not None:
                # A worker that was killed between its last two writes has not done it.
                try:
                    self.folder.record(outcome.job.folder)
                except OSError as error:
                    # The job's own folder has everything; the same sweep again puts it on record.
                    reason = f"{self.folder.results_file} cannot be written: {error.strerror or error}"
                    ended[number] = replace(outcome, reason=reason)
                    break
        return ended

    def _launch(self, jobs: Sequence[Job]) -> Exception | None:
        """Hand jobs to the launcher; what it died of, if it did."""
        lists = [[*job.overrides, *self._place(job)] for job in jobs]
        if type(self._launcher).__name__ == "SlurmLauncher":
            watch_the_queue()
        first, self._launched = self._launched, self._launched + len(jobs)
        try:
            # What a job returns or raises is in its folder; what came back through a launcher is only a copy.
            self._launcher.launch(lists, initial_job_idx=first)
        except Exception as error:
            return error
        return None

    def _place(self, job: Job) -> list[str]:
        """Overrides that send a job to its folder, wherever its worker stands, and keep it from talking."""
        assert job.folder is not None
        return [
            f"hydra.sweep.dir={_quoted(str(job.folder.parent))}",
            f"hydra.sweep.subdir={_quoted(job.folder.name)}",
            "trainer.enable_progress_bar=false",
        ]

    def _ended(self, job: Job, problem: Exception | None, *, is_left: bool) -> Ended:
        if job.folder is None:
            return Ended(job, "", reason=job.refused)
        folder, marker = RunFolder(job.folder), marker_of(job.folder)
        if marker == "DONE":
            try:
                return Ended(job, marker, folder.read_results())
            except UserError as error:
                return Ended(job, marker, reason=f"{error}; without its marker DONE the job is scored again")
        stopped = "it was stopped" if marker == "INTERRUPTED" else "it was cut off"
        reason = folder.last_error or (stopped if folder.has_begun else "it never began")
        return Ended(job, marker, reason=f"{reason}: {one_line(problem)}" if problem and is_left else reason)


def _end_of(job: Job) -> tuple[str, int] | None:
    """The marker of a job and when it was written, None where there is none."""
    if job.folder is None or not (marker := marker_of(job.folder)):
        return None
    with contextlib.suppress(FileNotFoundError):
        return marker, (job.folder / marker).stat().st_mtime_ns
    return None


def _has_begun(job: Job) -> bool:
    return job.folder is not None and RunFolder(job.folder).has_begun


def _quoted(text: str) -> str:
    # For a path may hold what Hydra's grammar gives a meaning.
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
