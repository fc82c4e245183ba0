"""Reading a search space: Hydra's overrides, in its own grammar, and the conditions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Sweep
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from attnframe.errors import UserError, did_you_mean
from attnframe.sweeps.grid_sweeper import refuse_choices_for_the_sweep
from attnframe.sweeps.search import conditions
from attnframe.sweeps.search.conditions import ALWAYS
from attnframe.sweeps.search.space import Distribution, Parameter, SearchSpace, stepped

_TAGS = ("log", "int")


def read_space(
    arguments: Sequence[str],
    *,
    params: Mapping[str, Any] | None = None,
    conditions_of: Mapping[str, str] | None = None,
    config_loader: ConfigLoader | None = None,
) -> SearchSpace:
    """The space of the command line's overrides, in the grammar of Hydra.

    `params` are further ones by key, from a config; the command line takes precedence. `conditions_of` has by key
    where a parameter exists. `config_loader` knows the names that a glob stands for. Raises `UserError`, or Hydra's
    exceptions for what is no override.
    """
    parser = OverridesParser.create(config_loader=config_loader)
    # What is given twice is what was given last, as everywhere in Hydra.
    given = {override.get_key_element(): override for override in map(parser.parse_override, arguments)}
    named = [parser.parse_override(f"{key}={value}") for key, value in (params or {}).items() if key not in given]
    refuse_choices_for_the_sweep([*named, *given.values()])
    distributions: dict[str, Distribution] = {}
    fixed: dict[str, str] = {}
    for override in [*named, *given.values()]:
        key = override.get_key_element()
        if override.is_sweep_override():
            distributions[key] = _distribution(override)
        else:
            fixed[key] = "" if override.value_type is None else override.get_value_element_as_str()
    if not distributions:
        raise UserError(
            "there is nothing to search: give at least one override a space, for example "
            "'optimizer.lr=tag(log,interval(1e-4,1e-2))' or attention=multi_head,low_rank_v"
        )
    return _with_conditions(distributions, fixed, conditions_of or {}, given=set(given))


def _with_conditions(
    distributions: Mapping[str, Distribution], fixed: Mapping[str, str], texts: Mapping[str, str], given: set[str]
) -> SearchSpace:
    for key in texts:
        if key in fixed:
            raise UserError(f"{conditions.PLACE}: {key}: {texts[key]}: {key} is not searched but set to {fixed[key]}")
        if key not in distributions:
            raise UserError(f"{conditions.PLACE}: {key} is not searched: {did_you_mean(key, distributions)}")
    parsed = {key: conditions.parse_condition(key, texts[key]) if key in texts else ALWAYS for key in distributions}
    plain = {key: Parameter(key, distribution) for key, distribution in distributions.items()}
    possible: dict[str, list[str] | None] = {key: [text] for key, text in fixed.items()}
    for key, parameter in plain.items():
        values = parameter.values()
        possible[key] = None if values is None else [parameter.text(value) for value in values]
    ordered = conditions.order(parsed)
    conditions.check_values(parsed, possible)
    conditions.check_chains(parsed, ordered)
    parameters: list[Parameter] = []
    never: list[Parameter] = []
    for key in ordered:
        parameter = Parameter(key, distributions[key], parsed[key])
        # A value can come from what is fixed, or from a parameter that may exist.
        able = {*fixed, *(earlier.key for earlier in parameters)}
        if all(
            parent in able and not texts.isdisjoint(possible[parent] or ())
            for parent, texts in parsed[key].allowed.items()
        ):
            parameters.append(parameter)
        elif key in given:
            raise UserError(
                f"{conditions.PLACE}: {key} exists only where {parsed[key]}, which no trial has: leave {key} out"
            )
        else:
            never.append(parameter)
    return SearchSpace(parameters, fixed, never)


def _distribution(override: Override) -> Distribution:
    value, line = override._value, override.input_line
    tags = set(value.tags) if isinstance(value, Sweep) else set()
    for tag in sorted(tags - set(_TAGS)):
        raise UserError(f"{line}: there is no tag {tag!r}: {did_you_mean(tag, _TAGS)}")
    if isinstance(value, IntervalSweep):
        return _interval(value, tags, line)
    if isinstance(value, RangeSweep):
        return _range(value, tags, line)
    if tags:
        raise UserError(
            f"{line}: tag({sorted(tags)[0]}, ...) is for an interval or a range, and these are named values"
        )
    choices = list(dict.fromkeys(override.sweep_string_iterator()))
    if not choices:
        raise UserError(f"{line}: there is nothing that this stands for")
    return CategoricalDistribution(choices)


def _interval(value: IntervalSweep, tags: set[str], line: str | None) -> Distribution:
    low, high = value.start, value.end
    assert low is not None
    assert high is not None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise UserError(f"{line}: an interval goes from a smaller number to a larger one")
    _check_log(low, tags, line)
    # int(interval(1,8)) has whole bounds, where interval(1,8) has 1.0 and 8.0.
    if "int" in tags or (isinstance(low, int) and isinstance(high, int)):
        if low != int(low) or high != int(high):
            raise UserError(f"{line}: the bounds of whole numbers are whole numbers")
        return IntDistribution(int(low), int(high), log="log" in tags)
    return FloatDistribution(low, high, log="log" in tags)


def _range(value: RangeSweep, tags: set[str], line: str | None) -> Distribution:
    assert value.step is not None
    values = sorted(value.range()) if value.step else []
    if not values:
        raise UserError(f"{line}: this range is empty")
    low, high, step = values[0], values[-1], abs(value.step)
    _check_log(low, tags, line)
    if "log" in tags and step != 1:
        raise UserError(f"{line}: on a logarithmic scale a range has no step; leave it out, or take an interval")
    whole = all(isinstance(number, int) for number in values)
    if whole:
        return IntDistribution(int(low), int(high), step=int(step), log="log" in tags)
    if "int" in tags or "log" in tags:
        raise UserError(f"{line}: tag({sorted(tags)[0]}, ...) takes a range of whole numbers")
    return FloatDistribution(low, stepped(low, step, len(values) - 1), step=step)


def _check_log(low: float, tags: set[str], line: str | None) -> None:
    if "log" in tags and low <= 0:
        raise UserError(f"{line}: a logarithmic scale never comes to {low:g}: begin above 0")
