"""The options of a variant: what a constructor's signature says a config may hold, and which values fit."""

from __future__ import annotations

import dataclasses
import enum
import inspect
import types
import typing
from typing import Any

from attnframe.errors import UserError

GIVEN = ("d_model", "num_heads", "dropout", "d_context", "bias")
"""What a constructor may ask for by name and is then given by the model; everything else in it is an option."""

RESERVED = ("name", "backend")
"""Words that a config or `build_attention` uses itself beside the options."""

_OPTION_TYPES = "int, float, bool, str, an Enum, list, tuple, dict, or one of these | None"


@dataclasses.dataclass(frozen=True)
class Option:
    """One keyword-only constructor argument: what `attention.<name>=` sets."""

    name: str
    type: Any
    default: Any

    @property
    def type_name(self) -> str:
        """The type as one would write it, for example ``int | None``; of an Enum the names of its members."""
        bare, optional = _without_none(self.type)
        if isinstance(bare, type) and issubclass(bare, enum.Enum):
            return " | ".join([*bare.__members__, *(["None"] if optional else [])])
        return _as_annotated(self.type)


SHARED = (
    Option("rope", bool, False),
    Option("rope_base", float, 10000.0),
    Option("qk_norm", bool, False),
    Option("softcap", float | None, None),
)
"""Options of every variant, for `Attention.attend` does what they say (`attention.scoring`)."""


def read_signature(name: str, cls: type) -> tuple[frozenset[str], tuple[Option, ...]]:
    """(what of `GIVEN` the constructor takes, its options). Raises `UserError` when it is no complete schema."""
    where = f"{name}: {cls.__qualname__}.__init__"
    init: Any = cls.__init__  # type: ignore[misc]
    try:
        hints = typing.get_type_hints(init)
    except Exception as error:  # an annotation is any expression
        raise UserError(f"{where} has an annotation that cannot be read: {error}") from error
    takes: set[str] = set()
    options: list[Option] = []
    for parameter in list(inspect.signature(init).parameters.values())[1:]:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            stars = "*" if parameter.kind is parameter.VAR_POSITIONAL else "**"
            raise UserError(
                f"{where} has {stars}{parameter.name}: name every option, so that a misspelt one can be refused"
            )
        if parameter.name in GIVEN:
            takes.add(parameter.name)
            continue
        if parameter.name in RESERVED:
            raise UserError(f"{where}: an option cannot be called {parameter.name!r}; that word is taken")
        if any(parameter.name == option.name for option in SHARED):
            raise UserError(f"{where}: every variant has an option {parameter.name!r}; call this one otherwise")
        if parameter.kind is not parameter.KEYWORD_ONLY:
            raise UserError(
                f"{where}: {parameter.name!r} is none of {', '.join(GIVEN)}, so it is an option: put it "
                f"behind a bare * in the signature"
            )
        if parameter.name not in hints:
            raise UserError(f"{where}: option {parameter.name!r} needs a type ({_OPTION_TYPES})")
        if parameter.default is parameter.empty:
            raise UserError(f"{where}: option {parameter.name!r} needs a default")
        option = Option(parameter.name, hints[parameter.name], parameter.default)
        if not _is_option_type(option.type):
            raise UserError(
                f"{where}: option {option.name!r} has type {option.type_name}; possible are {_OPTION_TYPES}"
            )
        if not fits(option.default, option.type) or as_declared(option.default, option.type) != option.default:
            raise UserError(
                f"{where}: the default {option.default!r} of option {option.name!r} is no {_as_annotated(option.type)}"
            )
        options.append(option)
    return frozenset(takes), tuple(options)


def _as_annotated(hint: Any) -> str:
    is_class = isinstance(hint, type) and not typing.get_args(hint)
    return hint.__name__ if is_class else str(hint).replace("typing.", "")


def _without_none(hint: Any) -> tuple[Any, bool]:
    """The type behind ``X | None``, and whether None was allowed. Other unions stay as they are."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(hint) if member is not type(None)]
        if len(members) == 1:
            return members[0], True
    return hint, False


def _is_option_type(hint: Any) -> bool:
    bare, _ = _without_none(hint)
    container = typing.get_origin(bare) or bare
    if container in (list, tuple, dict):
        return all(inner is Ellipsis or _is_option_type(inner) for inner in typing.get_args(bare))
    return isinstance(bare, type) and (bare in (int, float, bool, str) or issubclass(bare, enum.Enum))


def fits(value: Any, hint: Any) -> bool:
    """Whether `value`, as a config holds it, can be an option of type `hint`."""
    bare, optional = _without_none(hint)
    if bare is typing.Any:
        return True
    if value is None:
        return optional
    container = typing.get_origin(bare) or bare
    if container in (list, tuple):
        # A config holds every sequence as a list, also where the constructor says tuple.
        if not isinstance(value, list | tuple):
            return False
        items = _item_types(bare, len(value))
        return len(items) == len(value) and all(map(fits, value, items))
    if container is dict:
        key_type, item_type = typing.get_args(bare) or (typing.Any, typing.Any)
        return isinstance(value, dict) and all(
            fits(key, key_type) and fits(item, item_type) for key, item in value.items()
        )
    if container is float:
        # No option means NaN, which no check of a range finds.
        return isinstance(value, float | int) and not isinstance(value, bool) and value == value
    if container is int:
        # Tensors hold no greater whole numbers.
        return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    if isinstance(container, type) and issubclass(container, enum.Enum):
        return isinstance(value, container) or (isinstance(value, str) and value in container.__members__)
    return isinstance(value, container)


def _item_types(sequence: Any, length: int) -> list[Any]:
    """What each item of a list or tuple type of `length` items has to be."""
    inner = typing.get_args(sequence)
    if typing.get_origin(sequence) is tuple and Ellipsis not in inner:
        return list(inner)
    return [inner[0] if inner else typing.Any] * length


def as_declared(value: Any, hint: Any) -> Any:
    """`value`, which fits `hint`, as a value of that very type."""
    bare, _ = _without_none(hint)
    container = typing.get_origin(bare) or bare
    if value is None or bare is typing.Any:
        return value
    if container in (list, tuple):
        return container(map(as_declared, value, _item_types(bare, len(value))))
    if container is dict:
        key_type, item_type = typing.get_args(bare) or (typing.Any, typing.Any)
        return {as_declared(key, key_type): as_declared(item, item_type) for key, item in value.items()}
    if isinstance(container, type) and issubclass(container, enum.Enum):
        return value if isinstance(value, container) else container[value]
    return float(value) if container is float else value


def as_config(value: Any) -> Any:
    """A default as a config holds it: of an Enum the member's name, and lists for tuples."""
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, list | tuple):
        return list(map(as_config, value))
    if isinstance(value, dict):
        return {as_config(key): as_config(item) for key, item in value.items()}
    return value


def override_value(value: Any) -> str:
    """`value` as one writes it behind `option=` on the command line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return f"[{','.join(map(override_value, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{override_value(key)}:{override_value(item)}' for key, item in value.items())}}}"
    return value.name if isinstance(value, enum.Enum) else str(value)
