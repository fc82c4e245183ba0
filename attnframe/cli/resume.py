"""`attnframe train resume=DIR`: a run goes on in its own folder, with its own config."""

from __future__ import annotations

import logging
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from logging.handlers import MemoryHandler
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attnframe import discovery
from attnframe.cli import composition, processes, settings
from attnframe.cli.legal_values import refuse_illegal
from attnframe.cli.run_results import print_results
from attnframe.cli.train_schema import TrainerSchema
from attnframe.errors import UserError, did_you_mean
from attnframe.runs import building
from attnframe.runs.folder import RunFolder
from attnframe.runs.loading import lost_plugins, read_manifest

LIMITS = ("trainer.max_steps", "trainer.max_epochs", "trainer.max_time")

_log = logging.getLogger(__name__)


def is_asked_for(arguments: Iterable[str]) -> bool:
    """Whether a run is to go on, rather than a new one to begin."""
    return any(argument.startswith("resume=") for argument in arguments)


def command_for(folder: Path) -> str:
    """What to type to go on with the run in `folder`."""
    return f"attnframe train {shlex.quote(f'resume={os.path.relpath(folder)}')}"


@contextmanager
def advising(folder: Path) -> Iterator[None]:
    """When the run in `folder` is stopped inside, say how to go on with it."""
    try:
        yield
    except KeyboardInterrupt as stop:
        manifest = folder / "manifest.json"
        # Empty, it was claimed and not begun.
        if manifest.exists() and manifest.stat().st_size:
            raise KeyboardInterrupt(f"{str(stop) or 'stopped'}; go on with: {command_for(folder)}") from None
        raise


def main(arguments: list[str]) -> int:
    """Exit code: 0 done, 1 the run failed, 2 something to mend, 130 interrupted."""
    folder, limits = _parse(arguments)
    # First of all, for it is read in no time.
    manifest = read_manifest(RunFolder(folder), "resume")
    composition.prepare()
    plain = {**manifest["settings"], "trainer": _trainer(manifest["settings"]["trainer"], limits)}
    try:
        attention = building.attention_factory(plain)
        building.check_accelerator(plain["trainer"]["accelerator"])
        building.try_attention(attention, plain["trainer"])
    except UserError as error:
        plugins = lost_plugins(manifest)
        raise UserError(f"resume={folder}: this run cannot be built again: {error}{plugins}") from error

    if processes.is_another(plain["trainer"]):
        return processes.take_part()

    # Here and not above: Lightning takes seconds to import, which a mistyped folder must not cost.
    from attnframe.training.run import RunFailed, resume

    with _logging_to(folder / "train.log") as begin_to_log:

        def going_on(step: int) -> None:
            begin_to_log()
            print(f"run folder: {os.path.relpath(folder)}\ngoing on after step {step}", flush=True)
            _log.info("going on after step %d", step)
            for file in discovery.loaded_plugins():
                _log.info("plugin %s", file)

        try:
            with advising(folder):
                results = resume(plain, folder, attention, limits=limits, going_on=going_on)
        except RunFailed as error:
            print(f"attnframe train: {error}", file=sys.stderr)
            return 1
        except OSError as error:
            raise UserError(f"the run folder cannot be written: {error}") from error
    print_results(results, folder)
    return 0


def _parse(arguments: list[str]) -> tuple[Path, dict[str, Any]]:
    """The folder, and the new limits by the names of the trainer's arguments."""
    folders = [argument.partition("=")[2] for argument in arguments if argument.startswith("resume=")]
    if len(folders) > 1 or not folders[0]:
        raise UserError("resume= takes the folder of one run: resume=outputs/<name>/<time>")
    limits: dict[str, Any] = {}
    for item in arguments:
        key, _, _ = item.partition("=")
        if key == "resume":
            continue
        if item in ("-m", "--multirun"):
            raise UserError(f"{item}: resume= goes on with one run and makes no sweep")
        if item.startswith("-"):
            raise UserError(f"{item}: with resume= there are no flags, for the run keeps its own config")
        if key not in LIMITS:
            raise UserError(
                f"{item}: a run that goes on keeps its own config; only its limits may be new: "
                f"{did_you_mean(key, LIMITS)}"
            )
        limits[key.removeprefix("trainer.")] = value = _value(item)
        if value is None or "${" in str(value):
            raise UserError(f"{item}: a run that goes on needs to know how far: give the limit itself")
    return Path(folders[0]).expanduser(), limits


def _value(item: str) -> Any:
    try:
        override = OverridesParser.create().parse_override(item)
    except HydraException:
        raise UserError(f"{item!r} is no override: write KEY=VALUE") from None
    if override.is_sweep_override():
        raise UserError(f"{item}: resume= goes on with one run and makes no sweep")
    return override.value()


def _trainer(before: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, Any]:
    """The settings under `trainer` with the new limits, checked as those of a new run are."""
    try:
        config = OmegaConf.merge(OmegaConf.structured(TrainerSchema), dict(before))
        for key, value in limits.items():
            OmegaConf.update(config, key, value)
    except OmegaConfBaseException as error:
        reason = (error.msg or str(error)).partition("\n")[0]
        raise UserError(f"trainer.{error.full_key}: {reason}") from error
    container = OmegaConf.to_container(config)
    assert isinstance(container, dict)
    trainer = {str(key): value for key, value in container.items()}
    # Only the new ones: the run has come this far with the others.
    refuse_illegal({key: trainer[key] for key in limits}, TrainerSchema, "trainer.")
    return settings.trainer_arguments(trainer)


@contextmanager
def _logging_to(file: Path) -> Iterator[Callable[[], None]]:
    """Log to the end of `file` as Hydra does for a new run, but only from the call of the yielded function on.

    What was logged before then is written too: a run that may not go on must leave the file as it was.
    """
    train = OmegaConf.load(composition.conf_folder() / f"{composition.PRIMARY}.yaml")
    formatter = logging.Formatter(train.hydra.job_logging.formatters.simple.format)
    appending = logging.FileHandler(file, encoding="utf-8", delay=True)
    console = logging.StreamHandler(sys.stdout)
    console.setLevel(logging.WARNING)
    for handler in (appending, console):
        handler.setFormatter(formatter)
    held = MemoryHandler(sys.maxsize, flushLevel=sys.maxsize, flushOnClose=False)
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers[:] = [console, held]
    root.setLevel(logging.INFO)

    def begin() -> None:
        held.setTarget(appending)
        held.flush()
        root.handlers[:] = [console, appending]

    try:
        yield begin
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        appending.close()
