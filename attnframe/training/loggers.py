"""Loggers by name. W&B is a mirror of the run folder, and never asks anything."""

from __future__ import annotations

import importlib.util
import logging
import netrc
import os
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import wandb
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only

from attnframe.errors import UserError, did_you_mean
from attnframe.runs.folder import RunFolder

_CLOUD = ("api.wandb.ai", "api.forge.coreweave.com")

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoggedRun:
    """What loggers know of a run. `config` is stored by those that can.

    `part` counts how often the run has gone on after a stop, and `wandb_id` is what it was called at W&B before.
    """

    folder: RunFolder
    name: str
    config: Mapping[str, Any]
    part: int = 0
    wandb_id: str | None = None


def make_loggers(settings: Mapping[str, Mapping[str, Any] | None], run: LoggedRun) -> list[Logger]:
    """The loggers that are keys of `settings`.

    Raises `UserError` for an unknown logger or one whose package is not installed.
    """
    makers: dict[str, Callable[..., Logger]] = {"csv": _csv, "tensorboard": _tensorboard, "wandb": _wandb}
    for key in settings:
        if key not in makers:
            raise UserError(f"logger={key}: there is no such logger; {did_you_mean(key, [*makers, 'none'])}")
    return [makers[key](run, **(options or {})) for key, options in settings.items()]


def finish_wandb(*, exit_code: int) -> None:
    """End this process's W&B run, if any: the next job of a sweep would otherwise write into it."""
    if wandb.run is not None:
        wandb.finish(exit_code=exit_code)


def wandb_mode() -> str:
    """`WANDB_MODE` if it is set; "offline" wherever W&B would otherwise ask for an API key."""
    chosen = os.environ.get("WANDB_MODE", "online")
    return chosen if chosen != "online" or _has_credentials() else "offline"


def _has_credentials() -> bool:
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urllib.parse.urlsplit(os.environ.get("WANDB_BASE_URL") or wandb.Settings().base_url).netloc
    try:
        stored = netrc.netrc(os.environ.get("NETRC"))
    except (OSError, netrc.NetrcParseError):
        return False
    # W&B takes a key stored under either name of its cloud.
    return any(stored.authenticators(name) for name in (_CLOUD if host in _CLOUD else (host,)))


def _csv(run: LoggedRun) -> Logger:
    # A part of its own for each stop: the logger empties a folder that it finds.
    return CSVLogger(run.folder.path, name="csv", version=f"part_{run.part}" if run.part else "")


def _tensorboard(run: LoggedRun) -> Logger:
    if importlib.util.find_spec("tensorboard") is None:
        raise UserError("logger=tensorboard needs the tensorboard package: pip install 'attnframe[tensorboard]'")
    return TensorBoardLogger(run.folder.path, name="tensorboard", version="")


def _wandb(
    run: LoggedRun,
    *,
    project: str,
    entity: str | None,
    group: str | None,
    tags: list[str],
) -> Logger:
    def start(mode: str) -> Logger:
        # Started here and now, so that a failure while building is recorded in it; and not by WandbLogger, which
        # passes a setting that W&B warns of. None on every process but the first.
        started = rank_zero_only(wandb.init)(
            name=run.name,
            id=run.wandb_id,
            # Offline there is nothing to append to: the same id makes a second file.
            resume="allow" if run.wandb_id and mode == "online" else None,
            allow_val_change=run.wandb_id is not None,
            dir=run.folder.path,
            project=project,
            entity=entity,
            group=group,
            tags=tags,
            mode=mode,  # type: ignore[arg-type]  # whatever WANDB_MODE says: W&B checks it
            config=dict(run.config),
            settings=wandb.Settings(console="off", silent=True, init_timeout=30),
        )
        if started is not None:
            started.define_metric("trainer/global_step")
            started.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        return WandbLogger(experiment=started, save_dir=run.folder.path)

    try:
        return start(wandb_mode())
    except (wandb.errors.CommError, wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
        _log.warning("W&B cannot be reached (%s): this run is kept offline", str(error).partition("\n")[0])
        return start("offline")
