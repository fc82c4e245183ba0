"""When a parameter of a search exists: only where others have certain values."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from attnframe.errors import UserError, did_you_mean

PLACE = "hydra.sweeper.conditions"


@dataclass(frozen=True)
class Condition:
    """Holds where each key has one of its values; keys and values as one writes them on the command line."""

    allowed: Mapping[str, frozenset[str]]

    def holds(self, values: Mapping[str, str]) -> bool:
        """Whether it does with these values; a key that is not among them has none."""
        return all(values.get(key) in texts for key, texts in self.allowed.items())

    def __str__(self) -> str:
        return " and ".join(f"{key}={','.join(sorted(texts))}" for key, texts in self.allowed.items())


ALWAYS = Condition({})


def parse_condition(key: str, text: str) -> Condition:
    """`attention=low_rank_v`, several values with commas, several such clauses joined by ``and``.

    `key` is the parameter that depends on it. Raises `UserError` for what is none, or can never hold.
    """
    place = f"{PLACE}: {key}: {text}"
    allowed: dict[str, frozenset[str]] = {}
    for clause in re.split(r"\s+and\s+", text.strip()):
        try:
            override = OverridesParser.create().parse_override(clause)
        except HydraException as error:
            raise UserError(f"{place}: {clause!r} is no condition: write KEY=VALUE or KEY=VALUE,VALUE") from error
        name = override.get_key_element()
        if override.is_interval_sweep() or override.is_delete():
            raise UserError(f"{place}: a condition names values, KEY=VALUE or KEY=VALUE,VALUE")
        if override.is_sweep_override():
            texts = frozenset(override.sweep_string_iterator())
        else:
            texts = frozenset([override.get_value_element_as_str()])
        if name == key:
            raise UserError(f"{place}: {key} cannot depend on itself")
        allowed[name] = allowed.get(name, texts) & texts
        if not allowed[name]:
            raise UserError(f"{place}: {name} cannot be all of that at once")
    return Condition(allowed)


def order(conditions: Mapping[str, Condition]) -> list[str]:
    """The keys, each after those that it depends on, and else as they come. Raises `UserError` for a circle."""
    ordered: dict[str, None] = {}

    def visit(key: str, above: tuple[str, ...]) -> None:
        if key in above:
            circle = " → ".join([*above[above.index(key) :], key])
            raise UserError(f"{PLACE}: a circle, in which no value can be the first: {circle}")
        for parent in conditions[key].allowed:
            if parent in conditions and parent not in ordered:
                visit(parent, (*above, key))
        ordered[key] = None

    for key in conditions:
        if key not in ordered:
            visit(key, ())
    return list(ordered)


def check_values(conditions: Mapping[str, Condition], possible: Mapping[str, Iterable[str] | None]) -> None:
    """Refuse conditions on keys that are not in the search, or on values that they never have.

    `possible` has the values of every key of the command line; None where there are too many to name.
    """
    for key, condition in conditions.items():
        for parent, texts in condition.allowed.items():
            place = f"{PLACE}: {key}: {condition}"
            if parent not in possible:
                raise UserError(
                    f"{place}: {parent} is neither searched nor set, so it must be given too: "
                    f"{did_you_mean(parent, possible)}"
                )
            values = possible[parent]
            if values is None:
                raise UserError(
                    f"{place}: {parent} is searched over an interval; a condition needs a choice or a range"
                )
            values = list(values)
            for text in sorted(texts - set(values)) if len(values) > 1 else ():
                raise UserError(f"{place}: {parent} is never {text}: {did_you_mean(text, values)}")


def check_chains(conditions: Mapping[str, Condition], ordered: Iterable[str]) -> None:
    """Refuse a parameter whose condition asks for a value that is there only where the condition cannot hold."""
    needed: dict[str, dict[str, frozenset[str]]] = {}
    for key in ordered:
        own = dict(conditions[key].allowed)
        for parent in conditions[key].allowed:
            for name, texts in needed.get(parent, {}).items():
                own[name] = own.get(name, texts) & texts
                if not own[name]:
                    raise UserError(
                        f"{PLACE}: {key}: {conditions[key]}: contradicts itself, for {parent} exists only where "
                        f"{conditions[parent]}"
                    )
        needed[key] = own
