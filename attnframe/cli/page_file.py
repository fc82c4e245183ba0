"""The file that a page is written to, as a flag names it."""

from __future__ import annotations

import os
from pathlib import Path

from attnframe.errors import UserError

_PAGES = (".html", ".htm")


def page_file(flag: str, item: str, example: str) -> Path:
    """A file that may be written: no folder, not below a file, and nothing that is there already and is no page.

    Raises `UserError`. `flag` is what names it on the command line, `example` the name of a file such as it asks for.
    """
    if not item:
        raise UserError(f"{flag} needs its FILE: {flag} FILE")
    file = Path(item).expanduser()
    try:
        is_folder, is_file = file.is_dir(), file.is_file()
    except OSError as error:
        raise UserError(f"{flag} {item} cannot be written: {error.strerror}") from error
    if is_folder:
        raise UserError(f"{flag} {item}: this is a folder; name a file, such as {file / example}")
    above = next(folder for folder in file.absolute().parents if folder.exists())
    if not above.is_dir():
        raise UserError(f"{flag} {item}: {os.path.relpath(above)} is no folder")
    name = os.path.realpath(file)
    if is_file and not name.lower().endswith(_PAGES):
        raise UserError(
            f"{flag} {item}: {os.path.relpath(name)} is there already and ends in neither {' nor '.join(_PAGES)}, so "
            "it is not replaced"
        )
    return file
