"""Running `attnframe` at a terminal of its own, with nobody at the keyboard."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

from command_line import CONSOLE_SCRIPT, environment


def printed_at_a_terminal(*arguments: str, cwd: Path, home: Path, columns: int, seconds: float) -> str:
    """What `attnframe ARGUMENTS` shows on a terminal so wide; it must end well within so many seconds."""
    leader, follower = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", CONSOLE_SCRIPT, *arguments],
        stdin=follower,
        stdout=follower,
        stderr=follower,
        cwd=cwd,
        env=environment(home, TERM="xterm", COLUMNS=str(columns)),
        start_new_session=True,
    )
    os.close(follower)
    printed = b""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if select.select([leader], [], [], 0.5)[0]:
            with contextlib.suppress(OSError):  # Linux: the other side is closed
                if chunk := os.read(leader, 65536):
                    printed += chunk
                    continue
            break
    try:
        assert process.wait(timeout=max(1, deadline - time.monotonic())) == 0, printed.decode()
    finally:
        process.kill()
        os.close(leader)
    return printed.decode()
