"""What is said in one sentence, without a traceback: the exception that means "the user can mend this", and another."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input. The message is one sentence: the place, the offending value, the legal values or the nearest name."""


class VariantFailed(Exception):  # noqa: N818  reads as what happened
    """The code of a variant is wrong. The message is one sentence with the site, the variant and the line; exit code 1.

    What the variant has raised is the cause.
    """


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A clause that helps who mistyped `name`: the nearest known name if one is near, and in any case every legal one.

    Example: ``did_you_mean("multi_heda", ["cross", "multi_head"])`` gives
    ``did you mean 'multi_head'? (known: cross, multi_head)``.
    """
    known = sorted(known)
    listing = f"known: {', '.join(known) or 'none'}"
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{near[0]}'? ({listing})" if near else listing
