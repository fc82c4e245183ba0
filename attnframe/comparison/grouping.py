"""Which runs are seeds of the same thing, and what tells one group from another, in words."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from attnframe import discovery
from attnframe.comparison.run_records import RunRecord
from attnframe.errors import UserError, did_you_mean
from attnframe.options import SHARED, as_config, override_value

# What changes neither what is trained nor how it is scored. `matched` follows from `match`.
_LEFT_OUT = ("seed", "name", "logger", "matched", "callbacks.patterns", "callbacks.max_score")
_LEFT_OUT_OF_TRAINER = ("enable_progress_bar", "log_every_n_steps", "profiler", "detect_anomaly")
# Config groups whose `name` is the choice itself: `attention=low_rank_v`.
_CHOICES = ("data", "attention", "backend", "optimizer", "scheduler", "decoding")
_SITES = ("encoder_self", "decoder_self", "cross")
_UNUSUAL = object()
_LATER_DEFAULTS = {
    **{f"{place}.{option.name}": as_config(option.default) for place in ("attention", *_SITES) for option in SHARED},
    "optimizer.entropy_weight": 0.0,
    "optimizer.z_loss_weight": 0.0,
}
_DATA, _SOURCES = "data hash", "code"


@dataclass(frozen=True)
class Group:
    """Runs that are equal but for their seed. `runs` are done and have a seed each; `left_out` says why others do not
    count. `settings` are by the key of an override.
    """

    name: str
    runs: tuple[RunRecord, ...]
    left_out: tuple[tuple[RunRecord, str], ...]
    settings: Mapping[str, Any]

    @property
    def first(self) -> RunRecord:
        """The run that speaks for what all runs of the group have."""
        return self.runs[0] if self.runs else self.left_out[0][0]

    @property
    def data_hash(self) -> str:
        """That of the data of every run."""
        return self.first.data_hash

    def numbers(self, key: str) -> list[float | None]:
        """A number of the results of each run."""
        return [run.number(key) for run in self.runs]


def group_runs(runs: Sequence[RunRecord]) -> list[Group]:
    """The groups in the order of their first runs; runs without a manifest are in none.

    Of several runs of one seed, which are no two samples of anything, the last one that is done counts.
    """
    by_key: dict[str, list[RunRecord]] = {}
    settings: dict[str, dict[str, Any]] = {}
    for run in runs:
        if run.manifest:
            flat = comparable_settings(run)
            # What is null in one version was not there in an older one.
            key = json.dumps(
                {name: flat[name] for name in sorted(flat) if flat[name] is not None}, sort_keys=True, default=str
            )
            by_key.setdefault(key, []).append(run)
            settings[key] = flat
    names = _names([settings[key] for key in by_key])
    return [_group(name, by_key[key], settings[key]) for name, key in zip(names, by_key, strict=True)]


def comparable_settings(run: RunRecord) -> dict[str, Any]:
    """The settings of a run that tell groups apart, by the key of an override; data and source files by digest."""
    settings = dict(run.settings)
    matched = settings.get("matched")
    if isinstance(matched, Mapping):
        # The width that was asked for; that which came out of it is one for each variant.
        settings["model"] = {**settings["model"], "d_ff": matched["d_ff_before"]}
    elif settings.get("match") is None:
        settings = {key: value for key, value in settings.items() if not key.startswith("match")}
    # What a run could have and has not goes unsaid, as in runs of before there was such an option.
    flat = {key: value for key, value in _flattened(settings) if _LATER_DEFAULTS.get(key, _UNUSUAL) != value}
    return flat | {_DATA: run.data_hash[:8], _SOURCES: run.sources}


def differing_settings(groups: Sequence[Group]) -> list[str]:
    """The keys that are not the same in all groups, in their order."""
    return _differing([group.settings for group in groups])


def find_group(groups: Sequence[Group], name: str | None) -> Group:
    """The group called `name`, or its one variant; by default that of multi-head attention, or the first.

    Raises `UserError`.
    """
    if name is None:
        plain = [group for group in groups if group.runs and _is_plain_multi_head(group)]
        return (plain or [group for group in groups if group.runs])[0]
    exact = [group for group in groups if group.name == name]
    short = [group for group in groups if group.settings.get("attention") == name]
    if exact or len(short) == 1:
        return (exact or short)[0]
    if short:
        names = " | ".join(group.name for group in short)
        raise UserError(f"--reference {name}: this can be any of {names}")
    raise UserError(f"--reference {name}: {did_you_mean(name, [group.name for group in groups])}")


def written(key: str, value: Any) -> str:
    """A setting as one writes it on the command line, or in words where it is no setting."""
    return f"{key} {value}" if key in (_DATA, _SOURCES) else f"{key}={override_value(value)}"


def _group(name: str, runs: Sequence[RunRecord], settings: Mapping[str, Any]) -> Group:
    counted: dict[str, RunRecord] = {}
    left_out = [(run, run.unfinished) for run in runs if run.unfinished]
    for run in runs:
        if not run.unfinished:
            seed = str(run.seed)
            if seed in counted:
                left_out.append((counted[seed], f"another run has the same settings and seed {seed}: {run.path.name}"))
            counted[seed] = run
    ordered = sorted(counted.values(), key=lambda run: (str(type(run.seed)), run.seed))
    return Group(name, tuple(ordered), tuple(left_out), settings)


def _flattened(settings: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in settings.items():
        path = f"{prefix}{key}"
        if path in _LEFT_OUT or (prefix == "trainer." and key in _LEFT_OUT_OF_TRAINER):
            continue
        if isinstance(value, Mapping) and value:
            yield from _flattened(value, f"{path}.")
        elif prefix and key == "name" and prefix[:-1] in _CHOICES:
            yield prefix[:-1], value
        elif (prefix and key == "name" and prefix[:-1] in _SITES) or (not prefix and key in _SITES):
            yield f"attention@{prefix[:-1] or key}", value
        else:
            yield path, value


def _differing(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = list(dict.fromkeys(key for flat in settings for key in flat))
    # The variant first: it is what most comparisons are about.
    keys.sort(key=lambda key: (not key.startswith("attention"), key in (_DATA, _SOURCES)))
    return [key for key in keys if len({json.dumps(flat.get(key), default=str) for flat in settings}) > 1]


def _names(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each group what it does not share with all others; its source files only where nothing else tells it."""
    configs = [{key: value for key, value in flat.items() if key != _SOURCES} for flat in settings]
    distinct = [config for place, config in enumerate(configs) if config not in configs[:place]]
    by_config = _names_of_configs(distinct)
    names = []
    for flat, config in zip(settings, configs, strict=True):
        name = by_config[distinct.index(config)]
        is_ambiguous = configs.count(config) > 1 and flat[_SOURCES]
        names.append(f"{name} {written(_SOURCES, flat[_SOURCES])}".strip() if is_ambiguous else name)
    return [name if name not in names[:place] else f"{name} ({place + 1})" for place, name in enumerate(names)]


def _names_of_configs(settings: Sequence[Mapping[str, Any]]) -> list[str]:
    """For each what it does not share with all others; what is null goes without saying."""
    differing = _differing(settings)
    names = []
    for flat in settings:
        usual = _usual_options(flat)
        words = [
            written(key, flat[key])
            for key in differing
            if flat.get(key) not in (None, "") and usual.get(key, _UNUSUAL) != flat[key]
        ]
        nulls = [written(key, flat[key]) for key in differing if key in flat and flat[key] is None]
        # A site without a variant of its own has that of the whole model.
        is_plain = all(key.startswith(("attention@", "layers.")) for key in differing if flat.get(key) is None)
        plain = written("attention", flat.get("attention"))
        names.append(" ".join(words) or (plain if is_plain else nulls[0] if nulls else plain))
    if len(set(names)) < len(names):
        # Told apart by what one of them has not.
        names = [" ".join(written(key, flat.get(key)) for key in differing if flat.get(key) != "") for flat in settings]
    if all(name.startswith("attention=") and " " not in name for name in names):
        names = [name.removeprefix("attention=") for name in names]
    return names


def _usual_options(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the variants of a run have anyway, by the key of an override."""
    usual: dict[str, Any] = {}
    for prefix, choice in (("attention", "attention"), *((site, f"attention@{site}") for site in _SITES)):
        # A plugin that is not here has no defaults.
        with suppress(UserError):
            if name := flat.get(choice):
                options = discovery.find_variant(str(name)).all_options
                usual |= {f"{prefix}.{option.name}": as_config(option.default) for option in options}
    return usual


def _is_plain_multi_head(group: Group) -> bool:
    own = [group.settings.get(f"attention@{site}") or group.settings.get(f"layers.{site}") for site in _SITES]
    return group.settings.get("attention") == "multi_head" and not any(own)
