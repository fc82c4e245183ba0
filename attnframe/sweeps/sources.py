"""The source text that the attention of a run consists of, beside attnframe itself."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

from torch import nn

from attnframe.attention import Attention
from attnframe.errors import UserError
from attnframe.model import AttentionFactory

_OURS = "attnframe"
_BASE = Attention.__module__
_OF_OTHERS = {"torch", *sys.stdlib_module_names}


def source_files(attention: AttentionFactory) -> dict[str, Path]:
    """By module name the files that define the variants of `attention`, and what these use of their own package.

    Of attnframe itself only the files of variants: its version stands for everything else. A file of a plugin folder
    is a package of its own. Raises `UserError` for a variant that cannot be built.
    """
    modules: dict[str, ModuleType] = {}
    for built in _built(attention):
        for part in built.modules():
            for cls in type(part).__mro__:
                if cls.__module__ != _BASE:
                    _follow(cls.__module__, modules, inside=_package(cls.__module__))
    return {name: Path(file) for name, module in sorted(modules.items()) if (file := getattr(module, "__file__", None))}


def _built(attention: AttentionFactory) -> Iterator[nn.Module]:
    """Each different attention module once."""
    for site, choices in attention.choices.items():
        for layer, choice in enumerate(choices):
            if choice not in choices[:layer]:
                yield attention.build(site, layer)


def _package(module: str) -> str:
    """What belongs to the module: its top-level package, and of attnframe and a plugin folder the file alone."""
    top = module.partition(".")[0]
    return module if top in (_OURS, "attnframe_plugins") else top


def _follow(name: str, found: dict[str, ModuleType], *, inside: str) -> None:
    """Add the module and every module of its package that it has names from."""
    module = sys.modules.get(name)
    if module is None or name in found or _package(name) != inside or name.partition(".")[0] in _OF_OTHERS:
        return
    found[name] = module
    for value in list(vars(module).values()):
        origin = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
        if isinstance(origin, str):
            _follow(origin, found, inside=inside)


def read_source(file: Path) -> bytes:
    """The text of a source file. Raises `UserError` where it has gone away."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read any more: {error.strerror or error}") from error
