"""`attnframe list`: what can be chosen, group by group."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

import attnframe
from attnframe import registry
from attnframe.cli import composition
from attnframe.cli.kept_verdicts import conformance
from attnframe.cli.list_arguments import parse
from attnframe.cli.output import print_json, print_table, wants_help, write
from attnframe.errors import UserError, did_you_mean
from attnframe.options import GIVEN, as_config, override_value

USAGE = """attnframe list [GROUP] [--json]      what can be chosen with GROUP=NAME

  attnframe list                    every group, its default, and the names in it
  attnframe list attention          variants and presets: formula, options with types and defaults, paper, file, and
                                    what `attnframe check` has found of each as it is now; beside its own options, each
                                    variant that calls attend has rope, rope_base, qk_norm and softcap
  attnframe list attention --backends
                                    also the backends that can run each one here; takes seconds, for each is tried
  attnframe list attention --page catalogue.html
                                    all of it on one HTML page that needs no network, with parameters, FLOPs, cache
                                    per token, and the pattern of each variant on the same sentence
  attnframe list attention --page catalogue.html model=small length=512
                                    the same, counted at other sizes
  attnframe list backend            backends, and whether they can be used on this machine
  attnframe list model --json
  attnframe list attention | cut -f1

In a pipe: a header line, then one line for each name, columns between tabs.
"""

# Names in the ConfigStore that only give YAML files their types.
_SCHEMA_SUFFIX = "_schema"


def main(arguments: list[str]) -> int:
    """Exit code 0. Raises `UserError` for an unknown group."""
    if wants_help(arguments):
        print(USAGE, end="")
        return 0
    asked = parse(arguments)
    composition.prepare()
    if asked.page is not None:
        _write_page(asked.page, asked.settings)
        return 0
    entries = _entries(asked.group) if asked.group else _groups()
    if asked.with_backends:
        # Here, for it imports what a list alone need not wait for.
        from attnframe.cli.capable_backends import backends_that_run

        found = backends_that_run([entry["name"] for entry in entries])
        entries = [entry | {"backends": found[entry["name"]]} for entry in entries]
    if asked.as_json:
        print_json(entries)
    else:
        # An empty group has no entry to take the columns from.
        columns = list(entries[0]) if entries else ["name"]
        print_table(columns, [[_shown(value) for value in entry.values()] for entry in entries])
    return 0


def _write_page(file: Path, settings: Sequence[str]) -> None:
    # Here, for it imports what a list need not wait for.
    from attnframe.cli.catalogue_page import write_page

    write_page(file, settings, {name: _place(Path(each.file)) for name, each in registry.variants().items()})
    # A device or a pipe has been given the page.
    if file.is_file():
        write(f"{os.path.relpath(file)}\n")


def _groups() -> list[dict[str, Any]]:
    defaults = _defaults()
    return [
        {"group": group, "default": defaults.get(group), "choices": [entry["name"] for entry in _entries(group)]}
        for group in composition.group_names()
    ]


def _entries(group: str) -> list[dict[str, Any]]:
    """What `attnframe list GROUP` shows: all entries of a group have the same keys, the columns."""
    if group == "attention":
        return [*_variants(), *_presets()]
    if group == "backend":
        return _backends()
    known = composition.group_names()
    if group not in known:
        raise UserError(f"there is no group {group!r}: {did_you_mean(group, known)}")
    files = [{"name": name, "about": _first_comment(file), "file": _place(file)} for name, file in _yaml_files(group)]
    named = {entry["name"] for entry in files}
    return [*files, *(entry for entry in _stored(group) if entry["name"] not in named)]


def _variants() -> Iterator[dict[str, Any]]:
    for variant in registry.variants().values():
        yield {
            "name": variant.name,
            "kind": "variant",
            "about": variant.summary,
            "options": [
                {"name": option.name, "type": option.type_name, "default": as_config(option.default)}
                for option in variant.options
            ],
            # In the order of a signature, not of a set.
            "takes": [name for name in GIVEN if name in variant.takes],
            "paper": variant.paper,
            "file": _place(Path(variant.file)),
            "conformance": conformance(variant),
        }


def _presets() -> Iterator[dict[str, Any]]:
    """YAML files of the group; their options are those that they set. It is the variant behind one that is checked."""
    for name, file in _yaml_files("attention"):
        yield {
            "name": name,
            "kind": "preset",
            "about": _first_comment(file),
            "options": [
                {"name": key, "type": type(value).__name__, "default": value} for key, value in _own_keys(file).items()
            ],
            "takes": [],
            "paper": None,
            "file": _place(file),
            "conformance": None,
        }


def _backends() -> list[dict[str, Any]]:
    from attnframe.attention.capability import devices_at_hand, plain_request
    from attnframe.backends import backends
    from attnframe.backends.resolution import AUTO

    device = devices_at_hand()[0]
    order = ", ".join(name for name, backend in backends().items() if not backend.only_by_name)
    entries = [{"name": AUTO, "about": f"the first of {order} that can run the variant", "usable": True, "reasons": []}]
    for backend in backends().values():
        wanted = plain_request(device)
        reasons = backend.unsupported(wanted)
        entries.append(
            {
                "name": backend.name,
                "about": _first_line(type(backend)),
                # What cannot train may still evaluate.
                "usable": not backend.unsupported(dataclasses.replace(wanted, trains=False)),
                "reasons": reasons,
            }
        )
    return entries


def _stored(group: str) -> Iterator[dict[str, Any]]:
    """Choices that exist only in code."""
    store = ConfigStore.instance()
    stored = store.repo.get(group, {})
    for key in sorted(stored):
        name = key.removesuffix(".yaml")
        if isinstance(stored[key], dict) or name.endswith(_SCHEMA_SUFFIX):
            continue
        node_type = OmegaConf.get_type(stored[key].node)
        yield {"name": name, "about": _first_line(node_type) if node_type else "", "file": ""}


def _yaml_files(group: str) -> list[tuple[str, Path]]:
    """(name, file) of every config of a group, by name; our file hides a user's of the same name, as in Hydra."""
    files: dict[str, Path] = {}
    for conf in (composition.conf_folder(), *composition.user_conf_folders()):
        for file in (conf / group).rglob("*.yaml"):
            files.setdefault(file.relative_to(conf / group).with_suffix("").as_posix(), file)
    return sorted(files.items())


def _defaults() -> dict[str, str]:
    """What `train` takes from each group when nobody chooses."""
    chosen: dict[str, str] = {}
    for entry in _load(composition.conf_folder() / f"{composition.PRIMARY}.yaml")["defaults"]:
        if isinstance(entry, dict):
            chosen |= {group: override_value(name) for group, name in entry.items()}
    return chosen


def _own_keys(preset: Path) -> dict[str, Any]:
    return {key: value for key, value in _load(preset).items() if key not in ("defaults", "name")}


def _load(file: Path) -> dict[str, Any]:
    content = OmegaConf.to_container(OmegaConf.load(file))
    assert isinstance(content, dict), "Hydra takes no other config"
    return {str(key): value for key, value in content.items()}


def _first_comment(file: Path) -> str:
    """The first line of a YAML file that speaks to people."""
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @package"):
            return line.lstrip("# ")
        if line and not line.startswith("#"):
            break
    return ""


def _first_line(cls: type) -> str:
    return (inspect.getdoc(cls) or "").partition("\n")[0]


def _place(file: Path) -> str:
    """The file as one would type it here; a core file by its place in the package."""
    for folder in (Path.cwd(), Path(attnframe.__file__).resolve().parent.parent):
        if file.resolve().is_relative_to(folder):
            return file.resolve().relative_to(folder).as_posix()
    return str(file)


def _shown(value: Any) -> Any:
    """A value of an entry as a cell."""
    return ", ".join(map(_item, value)) if isinstance(value, list) else value


def _item(item: Any) -> str:
    if isinstance(item, dict):
        return f"{item['name']}={override_value(item['default'])} ({item['type']})"
    return str(item)
