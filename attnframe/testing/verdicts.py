"""What a check says about a variant: passed, failed with its smallest failing case, or not applicable with a reason."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attnframe.testing.subject import Subject


class Outcome(enum.StrEnum):
    """The three ends of a check."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


class Failure(AssertionError):  # noqa: N818 - the word of the field
    """Raised by a check: the smallest failing case, in words with figures."""


class NotApplicable(Exception):  # noqa: N818 - no error
    """Raised by a check that has nothing to look at in this variant: the reason."""


@dataclass(frozen=True)
class Check:
    """One property of the contract.

    - `name`: its key in ``--only`` and ``--json``
    - `meaning`: what holds where it passes, one sentence
    - `run`: raises `Failure` or `NotApplicable`; what it returns is a remark on a variant that passes
    - `of_each_backend`, `of_each_option`: whether it is run on every backend and with every set of options, or on the
      first backend and with the defaults alone
    """

    name: str
    meaning: str
    run: Callable[[Subject], str | None]
    of_each_backend: bool = True
    of_each_option: bool = True


@dataclass(frozen=True)
class Verdict:
    """The outcome of one check of one variant; `detail` is the failing case, the reason, or a remark."""

    variant: str
    check: Check
    outcome: Outcome
    detail: str = ""

    @property
    def failed(self) -> bool:
        """Whether the variant breaks the contract here."""
        return self.outcome is Outcome.FAILED

    @property
    def sentence(self) -> str:
        """The verdict for a person to read."""
        text = f"{self.variant}: {self.check.name} {self.outcome}"
        if self.failed:
            return f"{text}: {self.detail}. What should hold: {self.check.meaning}"
        return f"{text}: {self.detail}" if self.detail else text


@contextlib.contextmanager
def case(words: str) -> Iterator[None]:
    """Within this context every error is a failure of the case that `words` describe."""
    try:
        yield
    except (Failure, NotApplicable):
        raise
    except Exception as error:  # a variant's code is anybody's
        raise Failure(f"{words}: {raised(error)}") from error


def raised(error: BaseException) -> str:
    """`error` in one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"raises {type(error).__name__}: {lines[0]}"
