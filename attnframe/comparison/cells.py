"""Numbers as a table shows them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from attnframe.comparison.intervals import Estimate


@dataclass(frozen=True)
class Form:
    """How a column is written: `text` takes a number to its digits.

    What is `fixed` is mostly one number for all runs of a group, and has no interval then.
    """

    text: Callable[[float], str]
    fixed: bool = False


def _decimals(count: int) -> Callable[[float], str]:
    # + 0.0 takes the sign from a zero.
    return lambda number: f"{round(number, count) + 0.0:,.{count}f}"


def _large(number: float) -> str:
    for factor, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(number) >= factor:
            return f"{number / factor:.2f} {unit}"
    return f"{number:.0f}"


DECIMALS: Mapping[str, int] = {"exact_match": 3, "bleu": 1, "chrf": 1, "loss": 3, "aer": 3}

FORMS: Mapping[str, Form] = {
    **{measure: Form(_decimals(count)) for measure, count in DECIMALS.items()},
    "parameters": Form(_decimals(0), fixed=True),
    "FLOPs / token": Form(_large, fixed=True),
    "tokens / s": Form(_decimals(0)),
    "peak MiB": Form(_decimals(0)),
    "seconds": Form(_decimals(1)),
    "steps": Form(_decimals(0), fixed=True),
    "steps to 0.95": Form(_decimals(0)),
}


def form_of(column: str) -> Form:
    """The form of a column; further measures have three decimals."""
    return FORMS.get(column, Form(_decimals(3)))


def estimate_text(found: Estimate | None, column: str) -> str | None:
    """`0.912 ± 0.031`, and how many runs have a number where not all do; None where none has."""
    if found is None:
        return None
    form = form_of(column)
    text = form.text(found.mean)
    if found.half_width is not None and not (form.fixed and found.half_width == 0):
        text += f" ± {form.text(found.half_width)}"
    return text if found.count == found.seeds else f"{text} ({found.count} of {found.seeds})"


def p_text(p: float | None) -> str | None:
    """Three decimals; what is smaller than they can show is said to be."""
    return None if p is None else f"{p:.3f}" if p >= 0.001 else "< 0.001"


def signed(number: float, measure: str) -> str:
    """A difference with its sign, in the decimals of the measure."""
    decimals = DECIMALS.get(measure, 3)
    rounded = round(number, decimals) + 0.0
    return f"{rounded:+.{decimals}f}" if rounded else f"{rounded:.{decimals}f}"
