"""Downloading a file once into the user's cache, so that it is there whole or not at all."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from typing import BinaryIO
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import Request, urlopen

from attnframe.data.lines import PARTIAL
from attnframe.errors import UserError

_log = logging.getLogger(__name__)

# Some sites turn away what does not look like a browser; this does and still says who asks.
_USER_AGENT = "Mozilla/5.0 (compatible; attnframe; data download)"
_TIMEOUT_SECONDS = 30.0
_LARGEST_BYTES = 1_000_000_000
_CHUNK_BYTES = 1 << 16
_RANGE_NOT_SATISFIABLE = 416
_WAY_OUT = "download it in another way and give the file with data.path=FILE"


def cache_folder() -> Path:
    """attnframe's folder in $XDG_CACHE_HOME, or in ~/.cache where that is not set."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attnframe"


def cached_download(url: str, folder: Path, check: Callable[[Path], None]) -> Path:
    """The file of an http(s) address in `folder`; only the first call uses the network.

    `check` looks at the file before it gets its name and raises `UserError` if it is not what was wanted. What a cut
    connection leaves is gone on with at the next call. Several processes may call at once: one downloads, the others
    wait. Raises `UserError` with the address, what went wrong, and `data.path` as the way around.
    """
    _check_address(url)
    file = folder / _file_name(url)
    partial = file.with_name(file.name + PARTIAL)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        while not file.exists():
            with partial.open("ab") as writer:
                _lock(writer)
                if not _is_at(writer, partial):
                    continue  # who held the lock before us has renamed or removed it
                _log.info("downloading %s to %s", url, file)
                try:
                    _download(url, writer)
                    check(partial)
                    partial.replace(file)
                except (Exception, KeyboardInterrupt) as error:
                    if isinstance(error, UserError) or not partial.stat().st_size:
                        partial.unlink()
                    raise
    except UserError as error:
        raise UserError(f"{url} is not what it should be: {error}; {_WAY_OUT}") from error
    except (OSError, HTTPException, ValueError) as error:
        raise UserError(f"{url} could not be downloaded to {folder} ({_reason(error)}); {_WAY_OUT}") from error
    return file


def _check_address(url: str) -> None:
    try:
        address = urlsplit(url)
        usable = address.scheme in ("http", "https") and bool(address.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise UserError(f"data.url={url}: it is no address with http:// or https://; a file of yours is data.path=FILE")


def _download(url: str, writer: BinaryIO) -> None:
    """Append what is missing, or start anew where the server does not go on in the middle."""
    have = os.fstat(writer.fileno()).st_size
    headers = {"User-Agent": _USER_AGENT} | ({"Range": f"bytes={have}-"} if have else {})
    try:
        response = urlopen(Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)
    except HTTPError as error:
        error.close()
        if have and error.code == _RANGE_NOT_SATISFIABLE:
            writer.truncate(0)
            _download(url, writer)
            return
        raise
    with response:
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if not resumed:
            writer.truncate(0)
            have = 0
        length = response.headers.get("Content-Length")
        expected = None if length is None else have + int(length)
        while chunk := response.read(_CHUNK_BYTES):
            have += writer.write(chunk)
            if have > _LARGEST_BYTES:
                writer.truncate(0)
                raise OSError(f"it is larger than {_LARGEST_BYTES} bytes")
    writer.flush()
    if expected is not None and have < expected:
        raise OSError(f"the connection broke after {have} of {expected} bytes; the same command goes on from there")


def _file_name(url: str) -> str:
    """The last part of the address, and a hash of all of it: other addresses may end alike."""
    last = PurePosixPath(urlsplit(url).path)
    digest = hashlib.sha256(url.encode()).hexdigest()[:8]
    return re.sub(r"[^\w.-]", "_", f"{last.stem or 'download'}-{digest}{last.suffix}")


def _lock(writer: BinaryIO) -> None:
    """Wait until no other process writes this file. Without such locks (Windows) there is no waiting."""
    try:
        import fcntl
    except ImportError:
        return
    fcntl.flock(writer, fcntl.LOCK_EX)


def _is_at(writer: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(writer.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _reason(error: Exception) -> str:
    reason = error.reason if isinstance(error, URLError) and not isinstance(error, HTTPError) else error
    text = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    return " ".join(text.split()) or type(error).__name__
