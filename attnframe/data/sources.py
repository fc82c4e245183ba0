"""Data sources by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from attnframe.data import grammar
from attnframe.data.schema import Corpus
from attnframe.errors import UserError, did_you_mean

_SOURCES: Mapping[str, Callable[..., Corpus]] = {"grammar": grammar.load}


def load_corpus(name: str, **options: Any) -> Corpus:
    """The corpus of the source `name` with its own options. Raises `UserError` for an unknown name."""
    if name not in _SOURCES:
        raise UserError(f"data.name={name}: there is no such data source; {did_you_mean(name, _SOURCES)}")
    return _SOURCES[name](**options)
