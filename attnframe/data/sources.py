"""Data sources by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from attnframe.data import grammar, parallel_file, tatoeba
from attnframe.data.schema import Corpus
from attnframe.errors import UserError, did_you_mean

# Settings under `data` that every source has, for tokenizers and batches: no source takes them.
_SHARED = (
    "name",
    "tokenizer",
    "lowercase",
    "normalization",
    "min_count",
    "vocab_size",
    "max_tokens",
    "eval_max_tokens",
)

_SOURCES: Mapping[str, Callable[..., Corpus]] = {
    "grammar": grammar.load,
    "parallel_file": parallel_file.load,
    "tatoeba": tatoeba.load,
}


def load_corpus(name: str, **options: Any) -> Corpus:
    """The corpus of the source `name` with its own options. Raises `UserError` for an unknown name or option."""
    if name not in _SOURCES:
        raise UserError(f"data.name={name}: there is no such data source; {did_you_mean(name, _SOURCES)}")
    known = inspect.signature(_SOURCES[name]).parameters
    for option in options:
        if option not in known:
            raise UserError(f"data.{option}: {name} has no option {option!r}: {did_you_mean(option, known)}")
    return _SOURCES[name](**options)


def corpus_of(settings: Mapping[str, Any]) -> Corpus:
    """The corpus that the settings under `data` describe."""
    options = {key: value for key, value in settings.items() if key not in _SHARED}
    return load_corpus(settings["name"], **options)
