"""One run in its folder, begun, gone on with, or brought to its end, and closed with one marker."""

from __future__ import annotations

import json
import logging
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch.distributed.distributed_c10d import PrefixStore

from attnframe.attention.raising import advice, name_of, place, plugin_that_raised
from attnframe.errors import UserError
from attnframe.model import AttentionFactory
from attnframe.runs.building import attention_factory
from attnframe.runs.folder import RunFolder
from attnframe.runs.loading import read_manifest
from attnframe.training.assembly import Assembly
from attnframe.training.interruption import Interrupted, cause_of
from attnframe.training.loggers import LoggedRun, finish_wandb, make_loggers
from attnframe.training.manifest import resumed_manifest
from attnframe.training.meeting import arrival, given_place, meeting_point
from attnframe.training.processes import Team, leading
from attnframe.training.pruning import Pruned, SearchTrial
from attnframe.training.stages import fit, train_and_score
from attnframe.training.stopped_run import read_stopped_run
from attnframe.training.world import World

_log = logging.getLogger(__name__)


class RunFailed(Exception):  # noqa: N818  reads as what happened
    """A run ended in an error that is written down in its folder."""


def run(settings: Mapping[str, Any], path: Path, attention: AttentionFactory) -> dict[str, Any]:
    """Train as `settings` say in the folder `path`, and return the flat `results.json`.

    Whatever happens, the folder ends with exactly one marker. Raises `UserError` (bad settings), `Interrupted`, or
    `RunFailed` for anything else, with the traceback in error.txt.
    """
    folder = RunFolder(path)
    folder.claim()
    with folder.held():
        # An earlier one may have been stopped here before it began.
        folder.reopen()
        return _begin(settings, folder, attention)


def resume(
    settings: Mapping[str, Any],
    path: Path,
    attention: AttentionFactory,
    *,
    limits: Mapping[str, Any],
    going_on: Callable[[int], None],
) -> dict[str, Any]:
    """Go on with the run in `path`, and return the results of the whole.

    `settings` are its own but for the new `limits` (`max_steps`, `max_epochs`, `max_time`). `going_on` is called with
    the step to go on from once nothing can be refused any more: until then the folder is left as it was. Raises as
    `run` does.
    """
    folder = RunFolder(path)
    with folder.held():
        return _go_on(settings, folder, attention, limits, going_on)


def complete(
    settings: Mapping[str, Any], path: Path, attention: AttentionFactory, *, trial: SearchTrial | None = None
) -> dict[str, Any]:
    """Bring the run in `path` to its end from wherever it stands, and return its results.

    A folder without a run begins one, as `settings` say. One that was stopped, killed or has failed goes on from its
    last checkpoint, with its own settings; one that is done is left alone. While another process runs in the folder,
    this one waits. `trial` is its part in a search; one that ends it raises `Pruned`. Else raises as `run` does.
    """
    folder = RunFolder(path)
    path.mkdir(parents=True, exist_ok=True)
    with folder.held(waiting=True):
        if "DONE" in folder.markers:
            return folder.read_results()
        if folder.has_begun:
            with _closing_what_cannot_go_on(folder) as going_on:
                own = read_manifest(folder)["settings"]
                return _go_on(own, folder, attention, {}, going_on, trial)
        folder.reopen()
        folder.checkpoints.mkdir(exist_ok=True)
        return _begin(settings, folder, attention, trial)


def take_part() -> None:
    """What a process of a run after the first does: train with the others, and neither write nor say anything.

    Which run that is, the first process tells.
    """
    _quieten()
    logging.disable(logging.CRITICAL)
    rank, size = given_place()
    store, world = meeting_point(), World(rank, size)
    job = json.loads(store.get("job"))
    settings, checkpoint = job["settings"], job["checkpoint"]
    trial = SearchTrial.of_another() if job["is_trial"] else None
    parts = Assembly(settings, RunFolder(Path(job["folder"])), attention_factory(settings), world, trial)
    store.set(arrival(rank), "")
    world.connect(PrefixStore("groups", store), parts.trainer.strategy.root_device)
    try:
        fit(parts, checkpoint=checkpoint and Path(checkpoint))
    except (Interrupted, Pruned, SystemExit) as error:
        if not isinstance(cause_of(error), Interrupted | Pruned):
            raise
    finally:
        world.disconnect()


def _begin(
    settings: Mapping[str, Any], folder: RunFolder, attention: AttentionFactory, trial: SearchTrial | None = None
) -> dict[str, Any]:
    with _closing(folder), leading(settings["trainer"]) as team:
        _quieten()
        _tell(team, settings, folder, checkpoint=None, trial=trial)
        loggers = make_loggers(settings["logger"], LoggedRun(folder, settings["name"], settings))
        parts = Assembly(settings, folder, attention, team.world, trial)
        parts.trainer.loggers = loggers
        folder.write_manifest(parts.manifest())
        return train_and_score(parts, team, checkpoint=None)


def _go_on(
    settings: Mapping[str, Any],
    folder: RunFolder,
    attention: AttentionFactory,
    limits: Mapping[str, Any],
    going_on: Callable[[int], None],
    trial: SearchTrial | None = None,
) -> dict[str, Any]:
    with leading(settings["trainer"]) as team:
        _quieten()
        try:
            parts, manifest, checkpoint = _pick_up(settings, folder, attention, limits, team.world, trial)
        except MisconfigurationException as error:
            raise UserError(str(error)) from error
        going_on(manifest["resumed"][-1]["step"])
        folder.reopen()
        with _closing(folder):
            folder.write_manifest(manifest)
            _tell(team, settings, folder, checkpoint, trial)
            return train_and_score(parts, team, checkpoint=checkpoint)


def _tell(
    team: Team,
    settings: Mapping[str, Any],
    folder: RunFolder,
    checkpoint: Path | None,
    trial: SearchTrial | None,
) -> None:
    whereabouts = {"folder": folder.path.absolute(), "checkpoint": checkpoint and checkpoint.absolute()}
    places = {key: path and str(path) for key, path in whereabouts.items()}
    team.tell({"settings": settings, "is_trial": trial is not None, **places})


def _pick_up(
    settings: Mapping[str, Any],
    folder: RunFolder,
    attention: AttentionFactory,
    limits: Mapping[str, Any],
    world: World,
    trial: SearchTrial | None,
) -> tuple[Assembly, dict[str, Any], Path | None]:
    """The parts of a run that goes on, its new manifest, and its checkpoint if it has one; nothing is written."""
    stopped = read_stopped_run(folder, limits)
    stopped.check_limits(settings["trainer"])
    parts = Assembly(settings, folder, attention, world, trial)
    stopped.check_corpus(parts.data.corpus)
    stopped.check_weights(parts.model)
    first = stopped.manifest
    part = len(first.get("resumed", [])) + 1
    logged = LoggedRun(folder, settings["name"], settings, part, first.get("wandb_id"))
    parts.trainer.loggers = make_loggers(settings["logger"], logged)
    manifest = resumed_manifest(first, parts.manifest(), step=stopped.step, limits=limits)
    return parts, manifest, folder.last_checkpoint if stopped.checkpoint else None


@contextmanager
def _closing_what_cannot_go_on(folder: RunFolder) -> Iterator[Callable[[int], None]]:
    """Let a folder say why its run could not be picked up; from the call of what is yielded on, it closes itself."""
    goes_on = False

    def going_on(step: int) -> None:
        nonlocal goes_on
        goes_on = True
        _log.info("going on after step %d", step)

    try:
        yield going_on
    except Exception as error:
        said = folder.last_error
        # An error that quotes the one before would grow with every try.
        if not goes_on and not (said and said in " ".join(str(error).split())):
            folder.reopen()
            folder.close("FAILED", f"{error}\n" if isinstance(error, UserError) else traceback.format_exc())
        raise


@contextmanager
def _closing(folder: RunFolder) -> Iterator[None]:
    """Close the folder with the marker for how the body ends, and W&B's run likewise."""
    # Until the training's own handlers are in place SIGTERM is a Ctrl-C, which leaves a marker.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except (KeyboardInterrupt, SystemExit, Exception) as error:
        stop = cause_of(error)
        if isinstance(stop, KeyboardInterrupt):
            finish_wandb(exit_code=130)
            folder.close("INTERRUPTED")
            raise (stop if isinstance(stop, Interrupted) else Interrupted()) from None
        if isinstance(error, Pruned):
            finish_wandb(exit_code=0)
            folder.close("INTERRUPTED", f"{error}\n")
            raise
        finish_wandb(exit_code=1)
        if isinstance(error, UserError | MisconfigurationException):
            folder.close("FAILED", f"{error}\n")
            raise UserError(str(error)) from error
        folder.close("FAILED", traceback.format_exc())
        raise RunFailed(f"{_reason(error)}; the traceback is in {folder.path / 'error.txt'}") from error
    finally:
        signal.signal(signal.SIGTERM, before)
    finish_wandb(exit_code=0)
    folder.close("DONE")


def _reason(error: BaseException) -> str:
    """What went wrong; where it was in the forward pass of a plugin, with its site and line."""
    words = f"{type(error).__name__}: {' '.join(str(error).split())}"
    module = plugin_that_raised(error)
    if module is None or isinstance(error, torch.OutOfMemoryError):
        return words
    name = name_of(module)
    return f"{words}; raised by {name} in {module.site} layer {module.layer + 1} ({place(error)}); {advice(name)}"


def _quieten() -> None:
    """Lightning's advice for other set-ups than ours says nothing to a user of this framework."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module=r"lightning\.")
