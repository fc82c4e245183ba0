"""What Hydra calls for each run of `attnframe train`, in this process or in a worker of a launcher."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from attnframe import discovery
from attnframe.cli import processes, resume, search_display, settings, sweep_display
from attnframe.cli.run_results import print_results
from attnframe.errors import UserError
from attnframe.model import AttentionFactory
from attnframe.runs import building
from attnframe.runs.decoding import Decoding
from attnframe.runs.folder import RunFolder
from attnframe.runs.matched_settings import match_of
from attnframe.sweeps.devices import take_gpu
from attnframe.sweeps.estimating import Estimate
from attnframe.sweeps.job import Ended, Job, Planned
from attnframe.sweeps.sweep_folder import SweepFolder
from attnframe.sweeps.worker import check_sources, do_job, is_prepared
from attnframe.training.attention_rows import AttentionRows
from attnframe.training.optimization import check_schedule

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

    from attnframe.sweeps.search.loop import Plan
    from attnframe.sweeps.search.study import SearchStudy

_log = logging.getLogger(__name__)


class TrainJob:
    """A run from a composed config, and the words around a sweep of them.

    It travels to the workers of a launcher, which may stand in another folder with another environment: it brings the
    working directory and the plugin folders along. `failures` is what runs in this process have raised; `sweep_name`
    and `ended` are those of a sweep that this process has planned; `search_failed` says that a search found nothing or
    was given up.
    """

    def __init__(self) -> None:
        self.failures: list[Exception] = []
        self.sweep_name: str | None = None
        self.ended: Sequence[Ended] = ()
        self.search_failed = False
        self._home = (os.getpid(), Path.cwd(), os.environ.get(discovery.FOLDERS_VARIABLE))

    def __call__(self, config: DictConfig) -> float | None:
        """One run. Returns what a sweeper minimises, the validation loss."""
        self._settle()
        folder = Path(HydraConfig.get().runtime.output_dir)
        try:
            return self._run(config, folder)
        except KeyboardInterrupt as stop:
            if HydraConfig.get().mode == RunMode.RUN:
                _note_interruption(folder)
            if self._home[0] == os.getpid():
                raise
            # In a worker: one run was stopped. A launcher would take it for the end of the whole sweep.
            raise RuntimeError(str(stop) or "stopped") from None
        except Exception as error:
            self.failures.append(error)
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                _note_failure(folder, error)
                raise  # so that the sweeper knows
            return None

    def settings(self, config: DictConfig) -> tuple[dict[str, Any], AttentionFactory]:
        """The plain settings of a run that can be built, and what builds its attention. Raises `UserError`."""
        plain = settings.plain(config)
        if plain["model"]["kind"] != "seq2seq":
            raise UserError(
                f"model.kind={plain['model']['kind']} cannot be trained, only described (attnframe describe); "
                f"models to train: tiny, small, base"
            )
        if not _runs_elsewhere():
            building.check_accelerator(plain["trainer"]["accelerator"])
        attention = building.attention_factory(plain)
        building.try_attention(attention, plain["trainer"])
        Decoding.of(plain["decoding"])
        check_schedule(plain)
        AttentionRows.of(plain).check(attention)
        return plain, attention

    def show_plan(self, folder: SweepFolder, plan: Sequence[Planned], config: DictConfig) -> None:
        """Print what a sweep will do."""
        self.sweep_name = folder.path.name
        sweep_display.print_plan(folder, plan, config)

    def show_estimate(self, find: Callable[[], Estimate]) -> None:
        """Print how long a sweep will take."""
        sweep_display.print_estimate(find)

    def watching(self, jobs: Sequence[Job]) -> AbstractContextManager[object]:
        """Show how far the jobs of a sweep are."""
        return sweep_display.watching(jobs)

    def show_ended(self, folder: SweepFolder, ended: Sequence[Ended]) -> None:
        """Print the table of a sweep, and keep how its jobs stand."""
        self.ended = ended
        sweep_display.print_ended(folder, ended)

    def show_search(self, folder: SweepFolder, study: SearchStudy, plan: Plan, config: DictConfig) -> None:
        """Print what a search will do."""
        self.sweep_name = folder.path.name
        search_display.print_search(folder, study, plan, sweep_display.place_of(config))

    def watching_trials(self, jobs: Sequence[Job]) -> AbstractContextManager[object]:
        """Show how far the trials under way are; that one has ended is said by `show_trial`."""
        return sweep_display.watching(jobs, lines=False)

    def show_trial(self, study: SearchStudy, trial: FrozenTrial) -> None:
        """Print how a trial has ended."""
        search_display.print_trial(study, trial)

    def show_found(self, folder: SweepFolder, study: SearchStudy, lines: Sequence[str], problem: str) -> None:
        """Print what a search has found; one that found nothing, or ended early, has failed."""
        search_display.print_found(folder, study, lines)
        self.search_failed = bool(problem) or not lines
        if problem:
            print(f"attnframe train: the search has ended: {problem}", file=sys.stderr)

    def _run(self, config: DictConfig, folder: Path) -> float:
        plain, attention = self.settings(config)
        building.check_accelerator(plain["trainer"]["accelerator"])
        for file in discovery.loaded_plugins():
            _log.info("plugin %s", file)
        match = match_of(plain)
        if match is not None:
            _log.info("%s", match)
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            processes.check_job(plain["trainer"])
            _share_gpus(plain["trainer"])
            if is_prepared(folder):
                if self._home[0] != os.getpid():
                    check_sources(folder, attention)
                _group_by_sweep(plain["logger"], folder.parent.name)
                return float(do_job(plain, folder, attention)["val/loss"] or "nan")
        print(f"run folder: {os.path.relpath(folder)}", flush=True)
        if match is not None:
            print(match, flush=True)

        # Here and not above: Lightning takes seconds to import, which a misspelt option must not cost.
        from attnframe.training.run import run

        with resume.advising(folder):
            results = run(plain, folder, attention)
        print_results(results, folder)
        return float(results["val/loss"])

    def _settle(self) -> None:
        """In a worker: go to where the command was given, and look for plugins where it would."""
        process, folder, plugins = self._home
        if process == os.getpid():
            return
        os.chdir(folder)
        if plugins is not None:
            os.environ[discovery.FOLDERS_VARIABLE] = plugins
        # Hydra's launchers do not set this in a worker, and a failed run would tell of Hydra.
        os.environ.setdefault("HYDRA_FULL_ERROR", "1")


def _runs_elsewhere() -> bool:
    """Whether a launcher may take the run to a machine with other devices."""
    if not HydraConfig.initialized():
        return False
    return HydraConfig.get().runtime.choices.get("hydra/launcher") not in sweep_display.LAUNCHERS_HERE


def _group_by_sweep(logger: dict[str, Any], sweep: str) -> None:
    """Show the runs of a sweep at W&B as one group, unless they are given another."""
    if (wandb := logger.get("wandb")) is not None and wandb["group"] is None:
        wandb["group"] = sweep


def _share_gpus(trainer: dict[str, Any]) -> None:
    """Where several runs may be under way on a machine of several GPUs, take one of these alone."""
    import torch

    if trainer["accelerator"] in ("auto", "gpu", "cuda") and trainer["devices"] in (1, "1", "auto"):
        place = Path(tempfile.gettempdir()) / f"attnframe_gpus_{os.getuid() if hasattr(os, 'getuid') else 0}"
        number = take_gpu(torch.cuda.device_count(), place)
        if number is not None:
            _log.info("on GPU %d", number)


def _note_interruption(folder: Path) -> None:
    """Mark the folder of a run that was stopped before it could do so itself."""
    run = RunFolder(folder)
    if folder.is_dir() and not run.markers and not run.has_begun:
        run.close("INTERRUPTED")


def _note_failure(folder: Path, error: Exception) -> None:
    """Leave the reason in the folder of a run that failed before it could do so itself."""
    run = RunFolder(folder)
    if not folder.is_dir() or (run.has_begun and not is_prepared(folder)):
        return
    # While another process runs there, it is that one's folder.
    with contextlib.suppress(UserError), run.held():
        said = run.last_error
        if "DONE" in run.markers or (run.markers and said and said in " ".join(str(error).split())):
            return
        run.reopen()
        run.close("FAILED", f"{error}\n" if isinstance(error, UserError) else traceback.format_exc())
