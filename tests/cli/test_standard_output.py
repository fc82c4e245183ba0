"""Commands whose standard output cannot be written to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from command_fixtures import home  # noqa: F401
from command_line import CONSOLE_SCRIPT, environment

from attnframe.cli.standard_output import to_output

# One prints with print, one with write, one leaves by Hydra's SystemExit.
COMMANDS = [["--version"], ["list", "model"], ["train", "--help"]]


def ran(home: Path, redirected: str, arguments: list[str], **more: str) -> subprocess.CompletedProcess[str]:  # noqa: F811
    line = ["sh", "-c", f'exec "$@" {redirected}', "sh", sys.executable, "-c", CONSOLE_SCRIPT, *arguments]
    return subprocess.run(line, capture_output=True, text=True, cwd=home, env=environment(home, **more), timeout=60)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("arguments", COMMANDS)
def test_a_full_device_is_one_sentence(home: Path, arguments: list[str]) -> None:  # noqa: F811
    done = ran(home, "> /dev/full", arguments)
    assert done.returncode == 1
    assert done.stderr == "attnframe: standard output cannot be written to: No space left on device\n"


@pytest.mark.parametrize("arguments", COMMANDS[:2])
def test_a_closed_output_is_one_sentence(home: Path, arguments: list[str]) -> None:  # noqa: F811
    done = ran(home, ">&-", arguments)
    assert (done.returncode, done.stderr) == (1, "attnframe: standard output is closed: nothing can be printed\n")


@pytest.mark.parametrize("arguments", COMMANDS[:2])
def test_a_reader_who_has_gone_away_has_seen_enough(home: Path, arguments: list[str]) -> None:  # noqa: F811
    reader, writer = os.pipe()
    os.close(reader)
    try:
        command = [sys.executable, "-c", CONSOLE_SCRIPT, *arguments]
        done = subprocess.run(
            command, stdout=writer, stderr=subprocess.PIPE, text=True, cwd=home, env=environment(home), timeout=60
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_is_printed_keeps_its_encoding(home: Path) -> None:  # noqa: F811
    done = ran(home, "", ["list", "attention"], PYTHONIOENCODING="ascii")
    assert done.returncode == 0
    assert "softmax(Q" in done.stdout
    assert done.stdout.isascii()


def test_errors_of_files_stay_what_they_are() -> None:
    def command() -> int:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        to_output("attnframe", command)
