"""The source text behind classes: the files that define them, and what these use of their own package.

Standard library only, as `registry` is.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import FunctionType, ModuleType

from attnframe.discovery import MODULE_PREFIX
from attnframe.errors import UserError

_OURS = "attnframe"
_BASE = f"{_OURS}.attention.base"
_OF_OTHERS = {"torch", *sys.stdlib_module_names}


def files_behind(classes: Iterable[type]) -> dict[str, Path]:
    """By module name the files that define `classes` and what they inherit from, and what these use of their package.

    Of attnframe itself only the files of variants, without the base class. A file of a plugin folder is a package of
    its own. Other packages and the standard library are left out.
    """
    modules: dict[str, ModuleType] = {}
    for cls in classes:
        for base in cls.__mro__:
            if base.__module__ != _BASE:
                _follow(base.__module__, modules, inside=_package(base.__module__))
    return {name: Path(file) for name, module in sorted(modules.items()) if (file := getattr(module, "__file__", None))}


def source_digest(file: Path) -> str:
    """The SHA-256 (hex) of a source file's text. Raises `UserError` where it has gone away."""
    return hashlib.sha256(_read(file)).hexdigest()


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
    for level, base, bound in _imported_names(_read(Path(file))):
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


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise UserError(f"{file} cannot be read any more: {error.strerror or error}") from error
