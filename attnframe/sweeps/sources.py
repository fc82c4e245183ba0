"""The source text that the attention of a run consists of, beside attnframe itself."""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType

from torch import nn

from attnframe.attention import Attention
from attnframe.discovery import MODULE_PREFIX
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
    return module if top in (_OURS, MODULE_PREFIX) else top


def _follow(name: str, found: dict[str, ModuleType], *, inside: str) -> None:
    """Add the module and every module of its package that it has names from."""
    module = sys.modules.get(name)
    if (
        not isinstance(module, ModuleType)
        or name in found
        or _package(name) != inside
        or name.partition(".")[0] in _OF_OTHERS
    ):
        return
    found[name] = module
    for value in list(vars(module).values()):
        _follow(_origin(value), found, inside=inside)
    for origin in _origins_of_plain_values(module):
        _follow(origin, found, inside=inside)


def _origin(value: object) -> str:
    """The module that a value is, or says that it is from; "" for one that does not say."""
    try:
        origin = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
    except Exception:
        # A lazy module or a proxy may raise anything when it is looked at.
        return ""
    return origin if isinstance(origin, str) else ""


def _origins_of_plain_values(module: ModuleType) -> Iterator[str]:
    """The modules that numbers, texts and other instances were imported from: these do not say it themselves."""
    file = getattr(module, "__file__", None)
    if file is None or not file.endswith(".py"):
        return
    for level, base, bound in _imported_names(read_source(Path(file))):
        if not isinstance(vars(module).get(bound), type | FunctionType | ModuleType):
            with suppress(ImportError):
                yield importlib.util.resolve_name("." * level + base, module.__package__ or None)


@cache
def _imported_names(source: bytes) -> list[tuple[int, str, str]]:
    """Of each `from base import name as bound` that runs when a module is imported its dots, base and bound."""
    found = []
    try:
        nodes: list[ast.AST] = [ast.parse(source)]
    except (SyntaxError, ValueError):
        return []
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.ImportFrom):
            found += [(node.level, node.module or "", name.asname or name.name) for name in node.names]
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            nodes += ast.iter_child_nodes(node)
    return found


def read_source(file: Path) -> bytes:
    """The text of a source file. Raises `UserError` where it has gone away."""
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read any more: {error.strerror or error}") from error
