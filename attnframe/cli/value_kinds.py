"""Which values an option may have: ranges of numbers, names, times; and how one says so."""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Protocol

from attnframe.errors import did_you_mean
from attnframe.options import override_value

_TIME = re.compile(r"\d\d:\d\d:\d\d:\d\d")
_HOW_TO_WRITE_A_TIME = "DD:HH:MM:SS, ten minutes as 00:00:10:00"


class Legal(Protocol):
    """The legal values of an option."""

    def __contains__(self, value: object) -> bool:
        """Whether `value`, as a config holds it, is one of them."""
        ...

    def advice(self, value: object) -> str:
        """What to say of `value`, which is none of them."""
        ...


@dataclass(frozen=True)
class Numbers:
    """From `least` to `most`, both legal themselves unless `above` or `below` says otherwise; NaN never is.

    `endless` has a meaning for -1 too, and `infinite` lets infinity in where there is no other `most`.
    """

    least: float
    most: float = math.inf
    whole: bool = False
    above: bool = False
    below: bool = False
    endless: bool = False
    infinite: bool = False

    def __contains__(self, value: object) -> bool:
        if not isinstance(value, int | float) or isinstance(value, bool) or (self.whole and value % 1 != 0):
            return False
        if self.endless and value == -1:
            return True
        over = value > self.least if self.above else value >= self.least
        under = value < self.most if self.below else value <= self.most
        return over and under and (self.infinite or math.isfinite(value))

    def __str__(self) -> str:
        kind = "a whole number" if self.whole else "a number" if self.infinite else "a finite number"
        low = f"above {self.least}" if self.above else f"from {self.least}"
        high = f"to below {self.most}" if self.below else f"to {self.most}"
        ends = f"{low} {high}" if self.most < math.inf else low if self.above else f"{low} on"
        return f"{kind} {ends}{', or -1 for no limit' if self.endless else ''}"

    def advice(self, value: object) -> str:
        """The whole range."""
        return f"it must be {self}"


@dataclass(frozen=True)
class Pair:
    """Two numbers, each one of `each`."""

    each: Numbers

    def __contains__(self, value: object) -> bool:
        return isinstance(value, list | tuple) and len(value) == 2 and all(item in self.each for item in value)

    def advice(self, value: object) -> str:
        """What each has to be."""
        return f"it must be a list of two, each {self.each}"


@dataclass(frozen=True)
class Names:
    """One of these words, as one writes them on the command line."""

    known: Collection[str]

    def __contains__(self, value: object) -> bool:
        return override_value(value) in self.known

    def advice(self, value: object) -> str:
        """The nearest name, and all."""
        return did_you_mean(override_value(value), self.known)


class Batches:
    """How many batches, or which part of all: Lightning tells 1 from 1.0."""

    def __contains__(self, value: object) -> bool:
        # Lightning takes 2.0 for 2.
        part = isinstance(value, float) and 0 < value <= 1
        return part or value in Numbers(1, whole=True)

    def __str__(self) -> str:
        return "a whole number of batches from 1 on, or a part of all, above 0.0 and up to 1.0"

    def advice(self, value: object) -> str:
        """Both ways to write it."""
        return f"it must be {self}"


class Time:
    """A time as Lightning reads it."""

    def __contains__(self, value: object) -> bool:
        return _TIME.fullmatch(str(value)) is not None

    def advice(self, value: object) -> str:
        """How to write it."""
        return f"write it as {_HOW_TO_WRITE_A_TIME}"


class BatchesOrTime(Batches):
    """Between two of something."""

    def __contains__(self, value: object) -> bool:
        return super().__contains__(value) or value in Time()

    def __str__(self) -> str:
        return f"{super().__str__()}, or a time ({_HOW_TO_WRITE_A_TIME})"
