"""What `attnframe check` found of a variant, kept for `attnframe list attention` as long as it holds."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import attnframe
from attnframe import registry
from attnframe.data.download import cache_folder
from attnframe.errors import UserError
from attnframe.registry import Variant
from attnframe.sources import files_behind, source_digest

if TYPE_CHECKING:
    from attnframe.testing import Verdict

PASSED = "passed"
FAILED = "failed"
NOT_CHECKED = "not checked"

# What the suite stands on, beside the modules at the top of the package.
_ROOMS = ("attention", "backends", "model", "patterns", "testing")


def kept_folder() -> Path:
    """Where verdicts are kept, a small file each. Raises RuntimeError for a user without a home."""
    return cache_folder() / "conformance"


def verdict_key(variant: Variant) -> str | None:
    """A digest of all that a verdict on `variant` depends on; None where its source cannot be read.

    That is the variant's source as `files_behind` finds it, attnframe's own code without the files of other variants,
    and the versions of attnframe, torch and Python.
    """
    try:
        files = files_behind([variant.cls])
        if variant.cls.__module__ not in files:
            return None
        parts = [
            variant.name,
            # Without the modules' names: a plugin's depends on what else is loaded.
            sorted(map(source_digest, files.values())),
            _house(frozenset(other.file for other in registry.variants().values())),
            [metadata.version("attnframe"), metadata.version("torch"), platform.python_version()],
        ]
    except UserError:
        return None
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def keep(variant: Variant, key: str, verdicts: Sequence[Verdict]) -> None:
    """Keep what a full run of the suite has found. Raises OSError or RuntimeError where nothing can be written."""
    # Here, for a list has no use for it.
    from attnframe.runs.folder import write_whole

    file = _file(variant, key)
    file.parent.mkdir(parents=True, exist_ok=True)
    failed = [verdict.check.name for verdict in verdicts if verdict.failed]
    write_whole(file, json.dumps({"variant": variant.name, "failed": failed}) + "\n")


def conformance(variant: Variant) -> str:
    """`passed`, `failed: <checks>`, or `not checked` since it, attnframe or torch was last changed."""
    key = verdict_key(variant)
    if key is None:
        return NOT_CHECKED
    try:
        failed = json.loads(_file(variant, key).read_text(encoding="utf-8"))["failed"]
        return f"{FAILED}: {', '.join(failed)}" if failed else PASSED
    except (OSError, RuntimeError, ValueError, KeyError, TypeError):
        # A file that is damaged says as little as one that is not there.
        return NOT_CHECKED


def _file(variant: Variant, key: str) -> Path:
    return kept_folder() / f"{variant.name}-{key[:16]}.json"


@cache
def _house(of_variants: frozenset[str]) -> str:
    """The digest of attnframe's code that the suite runs, without the files `of_variants`."""
    package = Path(attnframe.__file__).resolve().parent
    files = [*package.glob("*.py"), *(file for room in _ROOMS for file in (package / room).rglob("*.py"))]
    texts = {
        file.relative_to(package).as_posix(): source_digest(file) for file in files if str(file) not in of_variants
    }
    return hashlib.sha256(json.dumps(sorted(texts.items())).encode()).hexdigest()
