"""One GPU for each job where there are several: whoever comes first takes the first that is free."""

from __future__ import annotations

import atexit
import os
from contextlib import ExitStack
from pathlib import Path

from attnframe.runs.locking import locked

_VISIBLE = "CUDA_VISIBLE_DEVICES"

_held = ExitStack()
atexit.register(_held.close)


def take_gpu(count: int, folder: Path) -> int | None:
    """Let this process see one of `count` GPUs, until it ends; its number.

    `folder` is where the processes of this machine agree on who has which. Where there are more processes than GPUs,
    they share. None, and nothing is changed, where there is nothing to choose: there is one GPU at the most, or a
    scheduler has chosen already (CUDA_VISIBLE_DEVICES is set). Must come before CUDA is used in this process.
    """
    if count < 2 or _VISIBLE in os.environ:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    chosen = os.getpid() % count
    for number in range(count):
        file = (folder / f"gpu_{number}.lock").open("a+", encoding="utf-8")
        try:
            _held.enter_context(locked(file, waiting=False))
        except BlockingIOError:
            file.close()
            continue
        _held.callback(file.close)
        chosen = number
        break
    os.environ[_VISIBLE] = str(chosen)
    return chosen
