"""Attention variants by name, each with the config schema read off its constructor.

Standard library only, so that listing and checking names never waits for torch.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from attnframe.errors import UserError, did_you_mean
from attnframe.options import SHARED, Option, as_declared, fits, override_value, read_signature

_REFERENCE = re.compile(r"\bReference: (.*?)(https?://[^\s)>\]]+)")


class DuplicateNameError(UserError):
    """Two files register the same name. Never a mere warning: a comparison with the wrong one would look fine."""


@dataclasses.dataclass(frozen=True)
class Variant:
    """A registered attention variant and what its constructor says about it."""

    name: str
    cls: type
    file: str
    takes: frozenset[str]
    options: tuple[Option, ...]

    @property
    def all_options(self) -> tuple[Option, ...]:
        """Its own options and those that every variant has."""
        return (*self.options, *SHARED)

    @property
    def summary(self) -> str:
        """First line of the class docstring: the formula in one line."""
        return (inspect.getdoc(self.cls) or "").partition("\n")[0]

    @property
    def paper(self) -> str | None:
        """What the class docstring says between ``Reference:`` and the end of the first address behind it.

        None without such a word or address: what a template leaves to be filled in names no paper.
        """
        found = _REFERENCE.search(" ".join((inspect.getdoc(self.cls) or "").split()))
        return f"{found[1]}{found[2].rstrip('.,;:')}" if found else None

    def schema(self) -> type:
        """A dataclass with `name` and every option, typed and with its default: the Hydra config of this variant."""
        fields: list[tuple[str, Any, Any]] = [("name", str, dataclasses.field(default=self.name))]
        for option in self.all_options:
            fields.append((option.name, option.type, _field(option.default)))
        return dataclasses.make_dataclass(self.cls.__name__, fields)

    def check(self, options: Mapping[str, Any]) -> None:
        """Refuse, by name, an option that neither it nor every variant has, or a value of another type."""
        known = {option.name: option for option in self.all_options}
        for name, value in options.items():
            if name not in known:
                hint = did_you_mean(name, known)
                raise UserError(f"{self.name} has no option {name!r}: {hint}")
            if not fits(value, known[name].type):
                raise UserError(
                    f"{self.name}: option {name}={value!r} is no {known[name].type_name} "
                    f"(default {known[name].default!r})"
                )

    def arguments(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """Checked `options` in the types that the constructor declares: configs hold lists and names of members."""
        types_by_name = {option.name: option.type for option in self.all_options}
        return {name: as_declared(value, types_by_name[name]) for name, value in options.items()}

    def labelled(self, options: Mapping[str, Any]) -> str:
        """Its name, with those of the checked `options` that differ from its defaults."""
        values = self.arguments(options)
        changed = [o.name for o in self.all_options if values.get(o.name, o.default) != o.default]
        inside = ", ".join(f"{name}={override_value(values[name])}" for name in changed)
        return f"{self.name}({inside})" if inside else self.name


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
        variant = Variant(name, cls, _file_of(cls), *read_signature(name, cls))
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


def _field(default: Any) -> Any:
    if isinstance(default, list | dict):
        return dataclasses.field(default_factory=lambda: type(default)(default))
    return dataclasses.field(default=default)
