"""One process at a time: locks on files, which the system lets go however a process ends."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import IO

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(file: IO[str], *, waiting: bool = True) -> Iterator[None]:
    """Hold the lock of an open file; another holder is waited for, or, without `waiting`, raises BlockingIOError.

    Where the platform or the file system knows no locks, there is none.
    """
    if fcntl is not None:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if waiting else fcntl.LOCK_NB))
        except BlockingIOError:
            raise
        except OSError as error:
            _log.info("%s cannot be locked: %s", file.name, error)
    try:
        yield
    finally:
        # Before anybody else may write, what was written must be there.
        file.flush()
        if fcntl is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(file, fcntl.LOCK_UN)
