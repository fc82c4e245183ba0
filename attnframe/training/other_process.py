"""A process of a run after the first: started by it, silent, and gone when it is gone."""

from __future__ import annotations

import os
import signal
import threading
import time


def main() -> None:
    """Take part in the run that the environment leads to."""
    # The first process is the one to stop, and tells the others.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()

    from attnframe.training.run import take_part

    take_part()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


if __name__ == "__main__":
    main()
