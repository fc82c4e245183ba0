"""Runs as their folders tell of them: what ran, what it scored, and how it ended."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnframe.errors import UserError
from attnframe.runs.endings import ending_of
from attnframe.runs.folder import RunFolder


@dataclass(frozen=True)
class RunRecord:
    """One run folder. `unfinished` says in words why the run has no results; empty where it is done.

    `manifest` is empty where the run ended before it was written. `sources` is a digest of the files that a sweep's job
    was made of, empty where the run was no job.
    """

    path: Path
    manifest: Mapping[str, Any]
    results: Mapping[str, Any]
    unfinished: str = ""
    sources: str = ""

    @property
    def settings(self) -> Mapping[str, Any]:
        """The whole config of the run, as plain values."""
        settings: Mapping[str, Any] = self.manifest.get("settings", {})
        return settings

    @property
    def seed(self) -> Any:
        """The seed of weights and data order."""
        return self.settings.get("seed")

    @property
    def data_hash(self) -> str:
        """That of every sentence of every set."""
        return str(self.manifest.get("data", {}).get("hash", ""))

    def number(self, key: str) -> float | None:
        """A number of the results; None where there is none, or one that is not finite."""
        value = self.results.get(key)
        if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value):
            return None
        return float(value)


def read_runs(folders: Sequence[Path]) -> list[RunRecord]:
    """Every run that is one of `folders` or below one, each once; in their order, numbers in names read as numbers.

    Nothing is written. Raises `UserError` for a folder that is not there or that holds no run.
    """
    found: dict[str, RunRecord] = {}
    for folder in folders:
        if not folder.is_dir():
            what = "this is no folder" if folder.exists() else "there is no such folder"
            raise UserError(f"{folder}: {what}")
        paths = sorted(_run_folders(folder), key=_natural)
        if not paths:
            raise UserError(f"{folder}: there is no run in this folder or below it (no manifest.json)")
        for path in paths:
            key = os.path.realpath(path)
            if key not in found:
                found[key] = read_run(path)
    return list(found.values())


def read_run(path: Path) -> RunRecord:
    """The run in the folder `path`; what cannot be read of it is said in `unfinished`."""
    folder = RunFolder(path)
    manifest, results = _json_object(folder.manifest), _json_object(path / "results.json")
    unfinished = ending_of(folder)
    if not isinstance(manifest.get("settings"), dict) or not _has_parts(manifest):
        manifest = {}
        unfinished = unfinished or "manifest.json is damaged"
    if not unfinished and "test/exact_match" not in results:
        unfinished = "results.json is missing or damaged"
    # What a run that goes on again once wrote is not what it scores.
    return RunRecord(path, manifest, {} if unfinished else results, unfinished, _sources(path))


def _has_parts(manifest: Mapping[str, Any]) -> bool:
    """Whether what consists of parts does; older versions may not have had all of it."""
    of_run = [manifest.get(key, {}) for key in ("data", "versions")]
    of_settings = [manifest["settings"].get(key, {}) for key in ("data", "model", "attention", "trainer", "layers")]
    return all(isinstance(part, dict) for part in [*of_run, *of_settings])


def _run_folders(folder: Path) -> Iterator[Path]:
    for place, names, files in os.walk(folder):
        if "manifest.json" in files:
            yield Path(place)
            names.clear()


def _natural(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _json_object(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _sources(path: Path) -> str:
    sources = _json_object(path / "job.json").get("sources")
    if not isinstance(sources, dict) or not sources:
        return ""
    # Where a file lies is no part of what it says.
    digests = sorted(f"{Path(str(file)).name} {digest}" for file, digest in sources.items())
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()[:8]
