"""Attention variants by name: registration, and the config schema read off each constructor.

Standard library only, so that listing and checking names never waits for torch.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from attnframe.errors import UserError, did_you_mean

GIVEN = ("d_model", "num_heads", "dropout", "d_context", "bias")
"""What a constructor may ask for by name and is then given by the model; everything else in it is an option."""

RESERVED = ("name", "backend")
"""Words that a config or `build_attention` uses itself beside the options."""

_OPTION_TYPES = "int, float, bool, str, an Enum, list, tuple, dict, or one of these | None"


class DuplicateNameError(UserError):
    """Two files register the same name. Never a mere warning: a comparison with the wrong one would look fine."""


@dataclasses.dataclass(frozen=True)
class Option:
    """One keyword-only constructor argument: what `attention.<name>=` sets."""

    name: str
    type: Any
    default: Any

    @property
    def type_name(self) -> str:
        """The type as one would write it, for example ``int | None``."""
        return (
            self.type.__name__
            if isinstance(self.type, type) and not typing.get_args(self.type)
            else str(self.type).replace("typing.", "")
        )


@dataclasses.dataclass(frozen=True)
class Variant:
    """A registered attention variant and what its constructor says about it."""

    name: str
    cls: type
    file: str
    takes: frozenset[str]
    options: tuple[Option, ...]

    @property
    def summary(self) -> str:
        """First line of the class docstring: the formula in one line."""
        return (inspect.getdoc(self.cls) or "").partition("\n")[0]

    def schema(self) -> type:
        """A dataclass with `name` and every option, typed and with its default: the Hydra config of this variant."""
        fields: list[tuple[str, Any, Any]] = [("name", str, dataclasses.field(default=self.name))]
        for option in self.options:
            fields.append((option.name, option.type, _field(option.default)))
        return dataclasses.make_dataclass(self.cls.__name__, fields)

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse, by name, an option that the constructor does not have or a value of another type."""
        known = {option.name: option for option in self.options}
        for name, value in options.items():
            if name not in known:
                hint = did_you_mean(name, known) if known else "it takes no options"
                raise UserError(f"{self.name} has no option {name!r}: {hint}")
            if not _fits(value, known[name].type):
                raise UserError(
                    f"{self.name}: option {name}={value!r} is no {known[name].type_name} "
                    f"(default {known[name].default!r})"
                )

    def arguments(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Checked `options` in the types that the constructor declares: configs hold lists and names of members."""
        types_by_name = {option.name: option.type for option in self.options}
        return {name: _as_declared(value, types_by_name[name]) for name, value in options.items()}


_variants: dict[str, Variant] = {}

_Class = TypeVar("_Class", bound=type)


def register_attention(name: str) -> Callable[[_Class], _Class]:
    """Class decorator: make an `Attention` subclass selectable as ``attention=<name>``.

    Raises `UserError` when the signature is no complete schema (``*args``, ``**kwargs``, an option without a type or
    a default), and `DuplicateNameError` when another file has registered `name`.
    """
    if not isinstance(name, str) or not name.isidentifier():
        raise UserError(f"register_attention({name!r}): a variant's name is a Python identifier such as 'my_variant'")

    def register(cls: _Class) -> _Class:
        variant = Variant(name, cls, _file_of(cls), *_read_signature(name, cls))
        earlier = _variants.get(name)
        if earlier is not None and (earlier.file, earlier.cls.__qualname__) != (variant.file, cls.__qualname__):
            raise DuplicateNameError(
                f"the variant {name!r} is registered twice: by {earlier.cls.__qualname__} in {earlier.file} "
                f"and by {cls.__qualname__} in {variant.file}; rename one of them"
            )
        _variants[name] = variant
        return cls

    return register


def variants() -> dict[str, Variant]:
    """Every registered variant by name, in alphabetical order."""
    return dict(sorted(_variants.items()))


def forget(file: str) -> None:
    """Drop what `file` has registered: a plugin that fails half-way leaves nothing behind."""
    for name in [name for name, variant in _variants.items() if variant.file == file]:
        del _variants[name]


def _file_of(cls: type) -> str:
    module = sys.modules.get(cls.__module__)
    file = getattr(module, "__file__", None)
    return str(Path(file).resolve()) if file else f"<{cls.__module__}>"


def _read_signature(name: str, cls: type) -> tuple[frozenset[str], tuple[Option, ...]]:
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
        if not _fits(option.default, option.type) or _as_declared(option.default, option.type) != option.default:
            raise UserError(
                f"{where}: the default {option.default!r} of option {option.name!r} is no {option.type_name}"
            )
        options.append(option)
    return frozenset(takes), tuple(options)


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


def _fits(value: Any, hint: Any) -> bool:
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
        return len(items) == len(value) and all(map(_fits, value, items))
    if container is dict:
        key_type, item_type = typing.get_args(bare) or (typing.Any, typing.Any)
        return isinstance(value, dict) and all(
            _fits(key, key_type) and _fits(item, item_type) for key, item in value.items()
        )
    if container is float:
        return isinstance(value, float | int) and not isinstance(value, bool)
    if container is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if isinstance(container, type) and issubclass(container, enum.Enum):
        return isinstance(value, container) or (isinstance(value, str) and value in container.__members__)
    return isinstance(value, container)


def _item_types(sequence: Any, length: int) -> list[Any]:
    """What each item of a list or tuple type of `length` items has to be."""
    inner = typing.get_args(sequence)
    if typing.get_origin(sequence) is tuple and Ellipsis not in inner:
        return list(inner)
    return [inner[0] if inner else typing.Any] * length


def _as_declared(value: Any, hint: Any) -> Any:
    """`value`, which fits `hint`, as a value of that very type."""
    bare, _ = _without_none(hint)
    container = typing.get_origin(bare) or bare
    if value is None or bare is typing.Any:
        return value
    if container in (list, tuple):
        return container(map(_as_declared, value, _item_types(bare, len(value))))
    if container is dict:
        key_type, item_type = typing.get_args(bare) or (typing.Any, typing.Any)
        return {_as_declared(key, key_type): _as_declared(item, item_type) for key, item in value.items()}
    if isinstance(container, type) and issubclass(container, enum.Enum):
        return value if isinstance(value, container) else container[value]
    return float(value) if container is float else value


def _field(default: Any) -> Any:
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default))
    return dataclasses.field(default=default)
