"""Standard output that cannot be written to: one sentence instead of a traceback, for every command."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class OutputError(Exception):
    """Standard output cannot be written to. No OSError, which commands take for one of their files."""


class _Output(io.FileIO):
    def write(self, data: ReadableBuffer, /) -> int:
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            raise OutputError(f"standard output cannot be written to: {error.strerror}") from error


def to_output(name: str, command: Callable[[], int]) -> int:
    """The exit code of `command`, or 1 after a sentence by `name` where standard output cannot be written to.

    Whoever read it and has gone away has seen enough: then it is 0.
    """
    # Python's own way to say that the process was started with none.
    if sys.stdout is None:
        print(f"{name}: standard output is closed: nothing can be printed", file=sys.stderr)
        return 1
    _watch()
    try:
        try:
            return command()
        finally:
            # Also where Hydra leaves by SystemExit.
            sys.stdout.flush()
    except BrokenPipeError:
        _discard()
        return 0
    except OutputError as error:
        _discard()
        print(f"{name}: {error}", file=sys.stderr)
        return 1


def _watch() -> None:
    """Let what standard output raises be told from what files raise."""
    old = sys.stdout
    # Who has put something else there knows how to deal with it.
    if old is not sys.__stdout__ or not isinstance(old, io.TextIOWrapper):
        return
    sys.stdout = io.TextIOWrapper(
        io.BufferedWriter(_Output(old.fileno(), "w", closefd=False)),
        encoding=old.encoding,
        errors=old.errors,
        line_buffering=old.line_buffering,
        write_through=old.write_through,
    )


def _discard() -> None:
    """Keep Python from complaining when it writes at exit what is still waiting."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
