"""Lines of a user's file, plain, gzip or zip, as bytes: one at a time, and never more of one than a line may have."""

from __future__ import annotations

import difflib
import gzip
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from attnframe.errors import UserError

LONGEST_LINE = 1_000_000
"""Bytes that a line may have, its end not counted."""

PARTIAL = ".partial"
"""What the name of a file ends with while it is being downloaded."""

# What the standard library raises where packed bytes are not what they should be.
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, RuntimeError, struct.error, gzip.BadGzipFile)


def read_lines(path: Path, *, label: str | None = None) -> Iterator[bytes | None]:
    """The lines of the file without their ends; None stands for a line of more than `LONGEST_LINE` bytes.

    A name that ends with `.gz` or `.zip` says how the file is packed; a zip holds one `.txt` or `.tsv` beside names
    that start with an underscore. A byte order mark (UTF-8) is left out. Raises `UserError` where there is no such
    file, where it cannot be read, and where what is packed is damaged or cut off; `label` is its name there.
    """
    label = label or str(path)
    lines = 0
    try:
        _require_file(path, label)
        with _opened(path, label) as file:
            for line in _bounded(file):
                yield line.removeprefix(b"\xef\xbb\xbf") if line and not lines else line
                lines += 1
    except _DAMAGED as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{label}: the packed data is damaged or cut off after line {lines} ({reason})") from error
    except OSError as error:
        raise UserError(f"{label}: cannot be read ({error.strerror or error})") from error


def count_lines(path: Path) -> int:
    """How many lines `read_lines` gives."""
    return sum(1 for _ in read_lines(path))


def _bounded(file: IO[bytes] | gzip.GzipFile) -> Iterator[bytes | None]:
    # Room for the longest line, its end, and one byte that tells that it is longer.
    size = LONGEST_LINE + 3
    while piece := file.readline(size):
        line = piece.rstrip(b"\r\n")
        if len(line) <= LONGEST_LINE:
            yield line
            continue
        while piece and not piece.endswith(b"\n"):
            piece = file.readline(size)
        yield None


def _require_file(path: Path, label: str) -> None:
    if path.is_file():
        return
    if path.is_dir():
        raise UserError(f"{label}: is a folder, not a file")
    if path.exists():
        raise UserError(f"{label}: is no regular file")
    folder = path.parent
    if not folder.is_dir():
        raise UserError(f"{label}: there is no such file, and no folder {folder.resolve()}")
    near = difflib.get_close_matches(path.name, (entry.name for entry in folder.iterdir()), n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UserError(f"{label}: there is no such file in {folder.resolve()}{hint}")


@contextmanager
def _opened(path: Path, label: str) -> Iterator[IO[bytes] | gzip.GzipFile]:
    packing = Path(path.name.removesuffix(PARTIAL)).suffix.lower()
    if packing == ".gz":
        with gzip.open(path) as file:
            yield file
    elif packing == ".zip":
        with zipfile.ZipFile(path) as archive, archive.open(_only_text(archive, label)) as member:
            yield member
    else:
        with path.open("rb") as plain:
            yield plain


def _only_text(archive: zipfile.ZipFile, label: str) -> zipfile.ZipInfo:
    """The one member that holds sentences."""
    texts = [member for member in archive.infolist() if _is_text(PurePosixPath(member.filename))]
    if len(texts) != 1:
        names = ", ".join(member.filename for member in texts[:3]) + (", ..." if len(texts) > 3 else "")
        found = f"{len(texts)} ({names})" if texts else "none"
        raise UserError(
            f"{label}: a zip file must hold one .txt or .tsv file such as fra.txt, and this one holds {found}"
        )
    if texts[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UserError(f"{label}: {texts[0].filename} is not packed with deflate, the usual method of zip files")
    return texts[0]


def _is_text(name: PurePosixPath) -> bool:
    # Names with an underscore in front are notes: _about.txt in an export of Tatoeba, __MACOSX/ of a Mac.
    return name.suffix.lower() in (".txt", ".tsv") and not any(part.startswith(("_", ".")) for part in name.parts)
