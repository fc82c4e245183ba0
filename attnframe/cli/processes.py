"""`attnframe train` that torchrun or Slurm has started several times over: one leads the run, the others take part."""

from __future__ import annotations

import signal
import sys
from collections.abc import Mapping
from typing import Any

from attnframe.errors import UserError
from attnframe.training.meeting import given_place
from attnframe.training.parallelism import is_parallel, num_processes


def is_another(trainer: Mapping[str, Any]) -> bool:
    """Whether another process leads the run with the settings `trainer`.

    Raises `UserError` where not as many processes were started as these ask for.
    """
    rank, started = given_place()
    if not is_parallel(trainer):
        return False
    asked = f"trainer.devices={trainer['devices']} trainer.num_nodes={trainer['num_nodes']}"
    if started == 1 and trainer["num_nodes"] > 1:
        raise UserError(
            f"{asked}: on several machines the processes are started by torchrun or srun, one for each device of each "
            f"machine, and there is only this one"
        )
    if started not in (1, num_processes(trainer)):
        raise UserError(
            f"{asked} asks for {num_processes(trainer)} processes, but {started} were started by torchrun or srun"
        )
    return rank > 0


def check_job(trainer: Mapping[str, Any]) -> None:
    """Refuse a job of a sweep whose processes were started beside the sweep's own, for each of them would sweep."""
    started = given_place()[1]
    if is_parallel(trainer) and started > 1:
        raise UserError(
            f"a sweep starts the processes of its jobs itself, but {started} were started by torchrun or srun: start "
            f"it as one"
        )
    is_another(trainer)


def take_part() -> int:
    """Train with the others, silently; the exit code."""
    for number in (signal.SIGINT, signal.SIGTERM):
        # The one that leads is told to stop too, and tells this one when.
        signal.signal(number, signal.SIG_IGN)

    from attnframe.training.run import take_part

    try:
        take_part()
    except Exception as error:
        rank, started = given_place()
        reason = " ".join(str(error).split())
        print(f"attnframe train: process {rank + 1} of {started}: {type(error).__name__}: {reason}", file=sys.stderr)
        return 1
    return 0
