"""What the code of a variant has raised, in one sentence."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from attnframe import discovery, registry
from attnframe.attention.base import Attention
from attnframe.errors import UserError, VariantFailed

_LONGEST = 500


@contextmanager
def told_at(site: str, name: str, options: Mapping[str, Any]) -> Iterator[None]:
    """Within this context, where the variant `name` is built or run with `options`, an error names the site.

    What is no `UserError` becomes one where an option differs from its default, for then that may be what is wrong;
    else it becomes `VariantFailed`.
    """
    try:
        yield
    except UserError as error:
        raise UserError(str(error) if str(error).startswith(f"{site}: ") else f"{site}: {error}") from error
    except (Exception, SystemExit) as error:  # a variant's code is anybody's
        labelled = discovery.find_variant(name).labelled(options)
        sentence = f"{site}: {labelled} raises {words_and_place(error)}"
        if labelled == name:
            raise VariantFailed(f"{sentence}; {advice(name)}") from error
        raise UserError(sentence) from error


def words_and_place(error: BaseException) -> str:
    """What went wrong, and where."""
    return f"{type(error).__name__}: {one_line(error)} ({place(error)})"


def place(error: BaseException) -> str:
    """File and line of a plugin where `error` was raised, else those that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    plugins = [frame for frame in frames if frame.filename in discovery.loaded_plugins()]
    last = (plugins or frames)[-1]
    return f"{last.filename}, line {last.lineno}"


def one_line(error: BaseException) -> str:
    """The words of `error` on one line, or its type where it has none."""
    return " ".join(str(error).split())[:_LONGEST] or type(error).__name__


def advice(name: str) -> str:
    """How to find out more about a variant that raises."""
    return f"`attnframe check {name}` shows the smallest case"


def plugin_that_raised(error: BaseException) -> Attention | None:
    """The module of a plugin in whose forward pass `error` was raised, None where it was elsewhere."""
    files = discovery.loaded_plugins()
    found = None
    for frame, _ in traceback.walk_tb(error.__traceback__):
        module = frame.f_locals.get("self")
        if isinstance(module, Attention) and frame.f_code.co_filename in files:
            found = module
    return found


def name_of(module: Attention) -> str:
    """The name under which the class of `module` is registered, else that of the class."""
    names = [name for name, variant in registry.variants().items() if variant.cls is type(module)]
    return names[0] if names else type(module).__name__
