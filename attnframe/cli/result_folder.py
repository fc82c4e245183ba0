"""A folder of results inside a run that is there in full or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from attnframe.errors import UserError


@contextlib.contextmanager
def written_as_a_whole(place: Path) -> Iterator[Path]:
    """A new folder to write into, which becomes `place` when the body has succeeded, instead of what was there.

    Where the body fails or is interrupted, nothing of it is left and `place` is as it was. Raises `UserError` where the
    folder cannot be written.
    """
    # A name of its own for each launch: two at a time do not mix, and the last to end stays.
    partial = place.with_name(f".{place.name}.{os.environ['ATTNFRAME_LAUNCH']}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        _put(partial, place)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        with contextlib.suppress(OSError):
            # Made for this, if it is empty now.
            place.parent.rmdir()
        if isinstance(error, OSError) and not isinstance(error, BrokenPipeError):
            raise UserError(f"{place} cannot be written: {error.strerror or error}") from error
        raise


def _put(partial: Path, place: Path) -> None:
    """Rename `partial` to `place`, and throw away what was there only once that has succeeded."""
    if not place.exists():
        partial.rename(place)
        return
    before = partial.with_suffix(".before")
    place.rename(before)
    try:
        partial.rename(place)
    except BaseException:
        before.rename(place)
        raise
    shutil.rmtree(before, ignore_errors=True)
