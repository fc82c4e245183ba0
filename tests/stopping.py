"""Stopping `attnframe train` from outside, as a user or a cluster does."""

from __future__ import annotations

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path

from command_line import CONSOLE_SCRIPT


def train_and_signal(
    arguments: list[str], variables: dict[str, str], folder: Path, number: signal.Signals, *, step: int
) -> subprocess.CompletedProcess[str]:
    """Run `attnframe train ARGUMENTS` in `folder`, send `number` at `step` of its metrics.csv, and wait for the end."""
    command = [
        sys.executable,
        "-c",
        f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler); {CONSOLE_SCRIPT}",
        "train",
        *arguments,
    ]
    process = subprocess.Popen(
        command, cwd=folder, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        deadline = time.monotonic() + 300
        while max(map(last_step, folder.rglob("metrics.csv")), default=0) < step:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def last_step(file: Path) -> int:
    """The last step that a metrics.csv has a row of."""
    with file.open(encoding="utf-8", newline="") as opened:
        # A row that is being written may end in the middle of its last number, not of its first.
        return max((int(row["step"]) for row in csv.DictReader(opened) if row["epoch"]), default=0)
