"""How a run ended, in words."""

from __future__ import annotations

from attnframe.runs.folder import RunFolder

_ENDINGS = {
    "DONE": "",
    "INTERRUPTED": "the run was stopped before its end",
    "FAILED": "the run failed",
    "": "the run is not finished: it is still going on, or was killed",
}


def ending_of(folder: RunFolder, marker: str | None = None) -> str:
    """A sentence on why the run is not done, with the last line of error.txt; "" for one that is.

    `marker` is the one that the run is about to get, where it has none yet.
    """
    markers = folder.markers
    marker = marker or (markers[0] if markers else "")
    sentence = _ENDINGS[marker]
    return f"{sentence}: {folder.last_error}" if marker in ("FAILED", "INTERRUPTED") and folder.last_error else sentence
