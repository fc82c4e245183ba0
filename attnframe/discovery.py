"""Finding plugins: installed packages with an entry point, and loose files in the plugin folders."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.metadata
import importlib.util
import os
import re
import sys
import types
import warnings
from dataclasses import dataclass
from pathlib import Path

from attnframe import registry
from attnframe.errors import UserError, did_you_mean

ENTRY_POINT_GROUP = "attnframe.plugins"
FOLDERS_VARIABLE = "ATTNFRAME_PLUGINS"
DEFAULT_FOLDER = "plugins"
MODULE_PREFIX = "attnframe_plugins"
"""The package that plugin files seem to be modules of."""


class PluginWarning(UserWarning):
    """A plugin could not be imported; everything else goes on without it."""


@dataclass(frozen=True)
class BrokenPlugin:
    """A plugin that failed to import: its file, the cause in one line, and the variants it would have defined."""

    file: str
    cause: str
    names: frozenset[str]


_loaded: dict[str, None] = {}
_broken: dict[str, BrokenPlugin] = {}
_conf_folders: dict[Path, None] = {}


def load_plugins() -> None:
    """Import every plugin that was not tried yet. Each failing one is a single `PluginWarning`.

    Folders come from ``$ATTNFRAME_PLUGINS`` (several are separated as in ``$PATH``; empty turns loose files off),
    by default ``plugins/`` of the working directory. Raises `registry.DuplicateNameError`.
    """
    for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        label = f"{entry_point.name} ({entry_point.value})"
        if label not in _loaded and label not in _broken:
            _load_entry_point(entry_point, label)
    for folder in plugin_folders():
        for file in sorted(folder.glob("*.py")):
            path = str(file.resolve())
            if not file.name.startswith(("_", ".")) and path not in _loaded and path not in _broken:
                _load_file(path)


def find_variant(name: str) -> registry.Variant:
    """The variant called `name`; on a miss plugins are loaded first, so that worker processes find them too.

    Raises `UserError` with the nearest name, or with the cause if a plugin that would define it failed to import.
    """
    if name not in registry.variants():
        load_plugins()
    known = registry.variants()
    if name in known:
        return known[name]
    for broken in broken_plugins():
        if name in broken.names:
            raise UserError(f"the variant {name!r} is not available: {broken.file} failed to import: {broken.cause}")
    raise UserError(f"there is no attention variant {name!r}: {did_you_mean(name, known)}; {places_looked_in()}")


def chosen_folders() -> list[Path]:
    """The folders for plugin files, whether or not they exist; none where they are turned off."""
    setting = os.environ.get(FOLDERS_VARIABLE, DEFAULT_FOLDER)
    return [Path(folder) for folder in setting.split(os.pathsep) if folder]


def places_looked_in() -> str:
    """A clause for who misses a variant: where its file could have been."""
    folders = [f"{folder.absolute()}{'' if folder.is_dir() else ' (no such folder)'}" for folder in chosen_folders()]
    if not folders:
        return f"${FOLDERS_VARIABLE} is empty, so that no plugin files are looked for"
    return f"plugin files were looked for in {', '.join(folders)}"


def load_plugin_file(file: Path) -> list[registry.Variant]:
    """The variants that `file` registers, which is imported as a plugin unless it is loaded already.

    Raises `UserError` for a file that is not there, cannot be imported or registers nothing.
    """
    path = str(file.resolve())
    if not file.is_file():
        raise UserError(f"{file}: there is no such file")
    if path not in _broken and not _variants_of(path):
        with warnings.catch_warnings():
            # Here it is an error, not a warning.
            warnings.simplefilter("ignore", PluginWarning)
            _load_file(path)
    if path in _broken:
        raise UserError(f"{file} failed to import: {_broken[path].cause}")
    if not _variants_of(path):
        raise UserError(f"{file} registers no attention variant: it needs a class under @register_attention('name')")
    return _variants_of(path)


def _variants_of(path: str) -> list[registry.Variant]:
    return [variant for variant in registry.variants().values() if variant.file == path]


def plugin_folders() -> list[Path]:
    """Existing folders that are searched for plugin files."""
    return [folder for folder in chosen_folders() if folder.is_dir()]


def loaded_plugins() -> list[str]:
    """Files and entry points that were imported, in that order."""
    return list(_loaded)


def broken_plugins() -> list[BrokenPlugin]:
    """Plugins that failed to import."""
    return list(_broken.values())


def plugin_conf_folders() -> list[Path]:
    """The `conf/` folders that installed plugin packages bring along."""
    return list(_conf_folders)


def _load_entry_point(entry_point: importlib.metadata.EntryPoint, label: str) -> None:
    _loaded[label] = None
    try:
        entry_point.load()
    except (Exception, SystemExit) as error:
        del _loaded[label]
        # Python has dropped the modules that failed, so what they registered is nobody's.
        for variant in registry.variants().values():
            if variant.cls.__module__ not in sys.modules:
                registry.forget(variant.file)
        if isinstance(error, registry.DuplicateNameError):
            raise
        _note_broken(label, error, {entry_point.name, entry_point.module.rpartition(".")[2]})
        return
    file = getattr(sys.modules.get(entry_point.module.partition(".")[0]), "__file__", None)
    if file is not None and (conf := Path(file).parent / "conf").is_dir():
        _conf_folders[conf] = None


def _load_file(path: str) -> None:
    name = _module_name(path)
    # The loader is said outright: a link may lead to a file of any other name.
    loader = importlib.machinery.SourceFileLoader(name, path)
    module = importlib.util.module_from_spec(importlib.machinery.ModuleSpec(name, loader, origin=path))
    module.__file__ = path
    previous = sys.modules.get(name)
    # With a package above it, for pickle imports the module of a class by its name from the top.
    sys.modules.setdefault(MODULE_PREFIX, types.ModuleType(MODULE_PREFIX))
    sys.modules[name] = module
    _loaded[path] = None  # already here, for a plugin may itself ask for another plugin's variant
    try:
        loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del _loaded[path]
        registry.forget(path)
        if previous is None:
            del sys.modules[name]
        else:
            sys.modules[name] = previous
        if isinstance(error, registry.DuplicateNameError):
            raise
        _note_broken(path, error, _names_in(path))


def _module_name(path: str) -> str:
    """That of the file; where another folder has brought a file of the same name, with something of its own behind."""
    name = f"{MODULE_PREFIX}.{Path(path).stem}"
    if getattr(sys.modules.get(name), "__file__", path) == path:
        return name
    return f"{name}_{hashlib.sha256(path.encode()).hexdigest()[:8]}"


def _names_in(path: str) -> set[str]:
    """The variants that a file which cannot be imported would define."""
    try:
        source = Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        source = ""
    # By convention a file is called like its variant; what it says itself counts as well.
    return {Path(path).stem, *re.findall(r"register_attention\(\s*['\"](\w+)['\"]", source)}


def _note_broken(file: str, error: BaseException, names: set[str]) -> None:
    cause = f"{type(error).__name__}: {error}".splitlines()[0]
    _broken[file] = BrokenPlugin(file, cause, frozenset(names))
    warnings.warn(f"plugin {file} was left out, it failed to import: {cause}", PluginWarning, stacklevel=4)
