"""Where a study is kept: a journal file, or a database that several machines can reach."""

from __future__ import annotations

import re
from pathlib import Path

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.exc import SQLAlchemyError

from attnframe.errors import UserError

JOURNAL_FILE = "search.journal"

# How long a writer waits for another one.
_SQLITE_SECONDS = 60


def storage_address(storage: str | None, folder: Path) -> str:
    """The address by which every process finds what `hydra.sweeper.storage` names; null is a file in `folder`."""
    if storage is None:
        return str((folder / JOURNAL_FILE).absolute())
    if match := re.fullmatch(r"(sqlite(?:\+\w+)?:///)(?!/)(.+)", storage):
        # Relative, it would mean another file to a worker that stands elsewhere.
        return f"{match[1]}{Path(match[2]).absolute()}"
    return storage if "://" in storage else str(Path(storage).expanduser().absolute())


def open_storage(address: str) -> BaseStorage:
    """What is kept at an address of `storage_address`. Raises `UserError` where it cannot be reached."""
    place = f"hydra.sweeper.storage={_without_password(address)}"
    if "://" not in address:
        try:
            Path(address).parent.mkdir(parents=True, exist_ok=True)
            return JournalStorage(JournalFileBackend(address))
        except (OSError, ValueError) as error:
            raise UserError(f"{place}: the study cannot be read: {error}") from error
    waiting = {"connect_args": {"timeout": _SQLITE_SECONDS}} if address.startswith("sqlite") else None
    try:
        return RDBStorage(address, engine_kwargs=waiting)
    except (SQLAlchemyError, ImportError, OSError, RuntimeError) as error:
        reason = _without_password(" ".join(str(error).split())).partition(" (Background")[0]
        raise UserError(f"{place}: {reason}") from error


def _without_password(text: str) -> str:
    return re.sub(r"(://[^:/@\s]*):[^@/\s]*@", r"\1:...@", text)
