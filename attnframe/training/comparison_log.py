"""A comparison at W&B: a run of its own, of the job type "comparison"."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import wandb

from attnframe.errors import UserError
from attnframe.patterns.page import PageTable
from attnframe.training.loggers import wandb_mode

_log = logging.getLogger(__name__)


def log_comparison(
    folder: Path, page: Path, tables: Sequence[PageTable], *, name: str, project: str, config: Mapping[str, Any]
) -> None:
    """Log the page and the tables; without an API key the run is kept offline in `folder`.

    Raises `UserError` where W&B refuses it.
    """
    started = None
    try:
        started = _start(folder, name, project, config)
        # As it is: what W&B adds by default is a style sheet from the network.
        media: dict[str, Any] = {"comparison": wandb.Html(str(page), inject=False)}
        for table in tables:
            # A column of W&B's has one type, and a cell here may be a number or a text.
            rows = [[None if cell is None else str(cell) for cell in row] for row in table.rows]
            media[table.title] = wandb.Table(columns=list(table.columns), data=rows)
        started.log(media)
    except wandb.errors.Error as error:
        raise UserError(f"--wandb: W&B refuses it: {str(error).partition(chr(10))[0]}") from error
    finally:
        if started is not None:
            with contextlib.suppress(wandb.errors.Error):
                started.finish()


def _start(folder: Path, name: str, project: str, config: Mapping[str, Any]) -> wandb.Run:
    def start(mode: str) -> wandb.Run:
        return wandb.init(
            name=name,
            project=project,
            job_type="comparison",
            dir=folder,
            mode=mode,  # type: ignore[arg-type]  # whatever WANDB_MODE says: W&B checks it
            config=dict(config),
            settings=wandb.Settings(console="off", silent=True, init_timeout=30),
        )

    try:
        return start(wandb_mode())
    except (wandb.errors.CommError, wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
        _log.warning("W&B cannot be reached (%s): the comparison is kept offline", str(error).partition("\n")[0])
        return start("offline")
