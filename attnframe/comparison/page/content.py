"""What the page of a comparison shows: tables, differences, learning curves and patterns of groups of runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from attnframe.patterns.page import PageRun, PageTable


@dataclass(frozen=True)
class PageCurve:
    """What a group's runs measured while they trained: `mean` over the runs at each `x`, and a band around it.

    `axis` is one of `AXES`: "step", "seconds" (of training) or "flops" (spent in training). `x` is finite and never
    falls. `low` and `high` are the ends of the band, both None where there is none (one run). All are of one length.
    NaN and infinity in `mean` leave a gap in the line, in `low` or `high` a gap in the band.
    """

    group: str
    metric: str
    axis: str
    x: Sequence[float]
    mean: Sequence[float]
    low: Sequence[float] | None
    high: Sequence[float] | None


@dataclass(frozen=True)
class PageDifference:
    """How far two groups are apart in `measure` on the sentences of `set`: `first` minus `second`.

    `low` and `high` are the ends of the confidence interval, both NaN where none can be given. `p` is the p-value and
    `p_holm` the same after Holm's correction over all pairs shown, None where no significance is claimed. `verdict`
    says in words what follows.
    """

    first: str
    second: str
    measure: str
    set: str
    difference: float
    low: float
    high: float
    p: float | None
    p_holm: float | None
    verdict: str


@dataclass(frozen=True)
class PagePatterns:
    """What a group attends to, as one of its runs recorded it; only the last pattern step of `run` is shown.

    All groups are shown on the same sentences; what one of them has no pattern of, the page says.
    """

    group: str
    run: PageRun


@dataclass(frozen=True)
class ComparisonPage:
    """Everything on the page. `warnings` say what makes the comparison unfair, a sentence each; they come first.

    The first of `tables` is the main one and stands above the differences, the others below the curves in their order.
    `notes` say, a sentence each, how the numbers came about; they stand at the end.
    """

    title: str
    subtitle: str
    warnings: Sequence[str]
    tables: Sequence[PageTable]
    curves: Sequence[PageCurve]
    differences: Sequence[PageDifference]
    patterns: Sequence[PagePatterns]
    notes: Sequence[str]

    @property
    def groups(self) -> list[str]:
        """The names of all groups, each once, in the order in which curves, differences and patterns name them."""
        named = [
            *(curve.group for curve in self.curves),
            *(name for difference in self.differences for name in (difference.first, difference.second)),
            *(patterns.group for patterns in self.patterns),
        ]
        return list(dict.fromkeys(named))
