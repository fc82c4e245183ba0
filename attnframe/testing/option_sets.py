"""The option sets with which a variant is checked: its defaults, and each option once at another value."""

from __future__ import annotations

import contextlib
import enum
import types
import typing
from collections.abc import Iterator
from typing import Any

from attnframe.backends import BackendError
from attnframe.errors import UserError
from attnframe.options import Option
from attnframe.testing.subject import KEYS, QUERIES, Subject


def option_sets(subject: Subject) -> list[dict[str, Any]]:
    """Options that differ from the defaults, the empty set first.

    An int, float, bool or Enum gets the first other value with which the variant can be built and run; other types keep
    their default, for nobody but the author knows what else is legal.
    """
    found: list[dict[str, Any]] = [{}]
    for option in subject.variant.options:
        for value in _other_values(option):
            if _is_legal(subject, {option.name: value}):
                found.append({option.name: value})
                break
    return found


def _other_values(option: Option) -> Iterator[Any]:
    hint, default = option.type, option.default
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        hint = next(member for member in typing.get_args(hint) if member is not type(None))
    if hint is bool:
        yield not default
    elif hint is int:
        start = 2 if default is None else default
        # Small ones first: a window or a rank above the size of a test's input is none.
        yield from (value for value in (2, 1, start // 2, start - 1, start + 1, 2 * start) if value != default)
    elif hint is float:
        start = 0.7 if default is None else default
        yield from (value for value in (start / 2, 1.5 * start, start + 0.5, 0.25) if value != default)
    elif isinstance(hint, type) and issubclass(hint, enum.Enum):
        yield from (member for member in hint if member is not default)


def _is_legal(subject: Subject, options: dict[str, Any]) -> bool:
    """Whether the variant can be built with `options`, and does not say that the tests' inputs are no inputs for it."""
    try:
        module = subject.build(**options)
    except BackendError:
        return True
    except Exception:  # an illegal value, however the variant says so
        return False
    query, context = subject.embeddings(QUERIES), subject.embeddings(KEYS)
    # An error that is no refusal is for the checks to find.
    with contextlib.suppress(Exception):
        try:
            module(query, context, context)
        except UserError:
            return False
    return True
