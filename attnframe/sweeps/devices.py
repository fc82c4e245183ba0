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
    """Let this process see one of `count` GPUs alone, until it ends; its number.

    `folder` is where the processes of this machine agree on who has which. None, and nothing is changed, where there is
    nothing to share out: a scheduler has chosen already (CUDA_VISIBLE_DEVICES is set), there is one GPU at the most,
    or more processes than GPUs are there. Must come before CUDA is used in this process.
    """
    if count < 2 or _VISIBLE in os.environ:
        return None
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        file = (folder / f"gpu_{number}.lock").open("a+", encoding="utf-8")
        try:
            _held.enter_context(locked(file, waiting=False))
        except BlockingIOError:
            file.close()
            continue
        _held.callback(file.close)
        os.environ[_VISIBLE] = str(number)
        return number
    return None
