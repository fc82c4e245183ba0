"""What makes two jobs the same: what they compute, and with which code on which data."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from typing import Any

from attnframe.data.sources import corpus_of
from attnframe.model import AttentionFactory
from attnframe.sources import source_digest
from attnframe.sweeps.sources import source_files

# Where results go and how they are shown changes none of them.
_OUTPUTS = ("name", "logger")
_SHOWN = ("enable_progress_bar",)


@dataclass(frozen=True)
class Identity:
    """Digests (SHA-256, hex) of what a job consists of. `sources` are by module name, beside attnframe's `version`."""

    config: str
    data: str
    version: str
    sources: Mapping[str, str]

    @cached_property
    def key(self) -> str:
        """One digest of all."""
        return _digest([self.config, self.data, self.version, sorted(self.sources.items())])

    def changed_since(self, before: Identity) -> list[str]:
        """What is not as it was, of two jobs with the same config: modules, `data`, or attnframe's version."""
        names = sorted(self.sources.keys() | before.sources.keys())
        changed = [name for name in names if self.sources.get(name) != before.sources.get(name)]
        if self.data != before.data:
            changed.append("data")
        if self.version != before.version:
            changed.append(f"attnframe {before.version} -> {self.version}")
        return changed


class Identities:
    """Finds identities. Data is read, and its digest taken, once for each different setting of it."""

    def __init__(self) -> None:
        self._data: dict[str, str] = {}

    def of(self, settings: Mapping[str, Any], attention: AttentionFactory) -> Identity:
        """The identity of the run that `settings` describe. Raises `UserError` for data that cannot be had."""
        return Identity(
            config=_digest(_computed(settings)),
            data=self._data_digest(settings["data"]),
            version=metadata.version("attnframe"),
            sources={name: source_digest(file) for name, file in source_files(attention).items()},
        )

    def _data_digest(self, data: Mapping[str, Any]) -> str:
        key = _digest(data)
        if key not in self._data:
            self._data[key] = corpus_of(data).hash()
        return self._data[key]


def _computed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that have a part in what comes out."""
    kept = {key: value for key, value in settings.items() if key not in _OUTPUTS}
    kept["trainer"] = {key: value for key, value in settings["trainer"].items() if key not in _SHOWN}
    return kept


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
