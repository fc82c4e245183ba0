"""One HTML file out of a template, styles, scripts and data, under a policy that admits nothing else."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

Json = dict[str, Any]
Resource = tuple[str, str]
"""(package, file name)."""


@dataclass(frozen=True)
class Shell:
    """The files of a page, without its data: `scripts` in the order in which one uses the other."""

    template: Resource
    styles: tuple[Resource, ...]
    scripts: tuple[Resource, ...]


def document(shell: Shell, data: Json) -> str:
    """The page as one self-contained HTML document, in ASCII."""
    # The data comes last: it may hold anything, marks of the template too.
    return _without_data(shell).replace("{{data}}", script_json(data))


def script_json(data: Json) -> str:
    """JSON in ASCII that no HTML parser can take for markup, whatever the texts in it."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


@lru_cache(maxsize=2)
def _without_data(shell: Shell) -> str:
    """The document with everything but the data, which is never run and so needs no place in the policy."""
    style = "".join(map(_text, shell.styles))
    # As escapes in ASCII, so that the digests hold in whatever encoding the document is written, served or embedded.
    script = "".join(map(_text, shell.scripts)).encode("ascii", "backslashreplace").decode("ascii")
    policy = (
        f"default-src 'none'; script-src 'sha256-{_sha256(script)}'; style-src 'sha256-{_sha256(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    return _text(shell.template).replace("{{policy}}", policy).replace("{{style}}", style).replace("{{script}}", script)


def _text(resource: Resource) -> str:
    package, name = resource
    return files(package).joinpath(name).read_text(encoding="utf-8")


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
