"""Hydra's exceptions as one sentence: the place, the offending value, the legal values or the nearest name."""

from __future__ import annotations

import contextlib
import re

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attnframe import discovery, registry
from attnframe.cli import composition
from attnframe.errors import UserError, did_you_mean
from attnframe.model import SITES
from attnframe.options import override_value

# Configs that come with a package, and the extra that brings it.
_EXTRAS = {
    ("hydra/launcher", "joblib"): "joblib",
    ("hydra/launcher", "submitit_local"): "submitit",
    ("hydra/launcher", "submitit_slurm"): "submitit",
    ("hydra/launcher", "ray"): "ray",
}

_KINDS = {"Integer": "a whole number", "Float": "a number"}


def sentence(error: Exception, overrides: list[str], primary: str = composition.PRIMARY) -> str:
    """What the user did wrong and what to write instead. `primary` is the config that was composed."""
    if isinstance(error, MissingConfigException):
        return _missing_config(error, overrides)
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override!r} is no override: write KEY=VALUE, and a value with commas, brackets, quotes or = in "
            f"quotes of its own: \"KEY='VALUE'\""
        )
    text = str(error)
    cause = error.__cause__
    if match := re.match(r"Could not override '([^']+)'", text):
        place = match[1]
        return _unknown_group(place, primary) if "default list" in text else _unknown_key(place, overrides, primary)
    if isinstance(cause, OmegaConfBaseException) and cause.full_key:
        value = next((item for item in overrides if item.lstrip("+").startswith(f"{cause.full_key}=")), cause.full_key)
        reason = (cause.msg or str(cause)).partition("\n")[0]
        if "is not a ListConfig" in reason and "=" in value:
            key, _, item = value.partition("=")
            return f"{value}: this is a list, in brackets: {key}=[{item}]"
        if kind := re.search(r"could not be converted to (Integer|Float)", reason):
            reason = f"it must be {_KINDS[kind[1]]}"
        return f"{value}: {_type_problem(str(cause.full_key), overrides, primary) or reason}"
    if isinstance(error, OmegaConfBaseException):
        return text.partition("\n")[0]
    return " ".join(line.strip() for line in text.splitlines() if line.strip() and "HYDRA_FULL_ERROR" not in line)


def _missing_config(error: MissingConfigException, overrides: list[str]) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    chosen_so = re.compile(rf"{group}(@[\w.]+)?=.*\b{re.escape(name)}\b.*")
    place = next((item for item in overrides if chosen_so.fullmatch(item)), "")
    if group == "attention":
        try:
            discovery.find_variant(name)
        except UserError as cause:
            names = set(error.options or ()) | set(registry.variants())
            hint = f"{did_you_mean(name, names)}; {discovery.places_looked_in()}"
            known = f"there is no attention variant or preset {name!r}: {hint}"
            return f"{place or 'attention'}: {cause if 'failed to import' in str(cause) else known}"
    if (group, name) in _EXTRAS:
        chosen = place or f"{group}={name}"
        return f"{chosen} needs a package that is not there: pip install 'attnframe[{_EXTRAS[group, name]}]'"
    options = [option for option in error.options or () if not option.endswith("_schema")]
    if not group:
        return f"there is no config {name!r}: {did_you_mean(name, options)}"
    return f"{place or group}: there is no {group} {name!r}: {did_you_mean(name, options)}"


def _unknown_group(place: str, primary: str) -> str:
    group, _, package = place.partition("@")
    if primary != composition.PRIMARY:
        config = composition.compose_config([], primary)
        known = [name for name in composition.group_names() if name in config]
        if group not in known:
            return f"{place}: {primary} takes no config group {group!r}: {did_you_mean(group, known)}"
    if package:
        return f"{place}: there is no site {package!r}: {did_you_mean(package, SITES)}"
    return f"{place}: there is no config group {group!r}: {did_you_mean(group, composition.group_names())}"


def _unknown_key(place: str, overrides: list[str], primary: str) -> str:
    parent, _, key = place.rpartition(".")
    if parent in SITES:
        return (
            f"{place}: the site {parent} takes the whole of `attention`; choose its own variant first, for example "
            f"attention@{parent}=low_rank_v {place}=..."
        )
    config = _chosen_config(overrides, primary)
    able = _choices_with(parent, key, primary)
    if able and OmegaConf.select(config, f"{parent}.{key}") is None:
        return f"{place}: only {', '.join(able)} has {key!r}; choose it first: {parent}={able[0]} {place}=..."
    node = OmegaConf.select(config, parent) if parent else config
    while parent and not isinstance(node, DictConfig):
        # The first unknown word on the way is the one to name.
        parent, _, key = parent.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
    known = [str(name) for name in node] if isinstance(node, DictConfig) else []
    return f"{place}: {parent or 'the config'} has no {key!r}: {did_you_mean(key, known)}"


def _choices_with(group: str, key: str, primary: str) -> list[str]:
    """The names in a group whose config has `key`."""
    able = []
    for name in composition.choices(group):
        with contextlib.suppress(HydraException, OmegaConfBaseException, UserError):
            config = composition.compose_config([f"{group}={name}"], primary)
            node = OmegaConf.select(config, group)
            if isinstance(node, DictConfig) and key in node:
                able.append(name)
    return able


def _chosen_config(overrides: list[str], primary: str) -> DictConfig:
    """The config with only the groups that the command line chooses: the legal names beside a misspelt one."""
    groups = {*composition.group_names()}
    chosen = []
    with_hydra = any(item.startswith("hydra.") for item in overrides)
    for item in overrides:
        with contextlib.suppress(HydraException):
            override = OverridesParser.create().parse_override(item)
            is_group = override.key_or_group in groups or override.key_or_group.startswith("hydra/")
            if is_group and not override.is_sweep_override():
                chosen.append(item)
    return composition.compose_config(chosen, primary, with_hydra=with_hydra)


def _type_problem(full_key: str, overrides: list[str], primary: str) -> str | None:
    parent, _, key = full_key.rpartition(".")
    if parent == "attention" or parent in SITES:
        name = OmegaConf.select(_chosen_config(overrides, primary), f"{parent}.name")
        option = next((o for o in registry.variants()[name].all_options if o.name == key), None) if name else None
        if option is not None:
            return f"{name}'s option {key} is {option.type_name} (default {override_value(option.default)})"
    return None
