"""What the page shows: runs, their sentences and patterns over time, and what they were measured to be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from attnframe.attention import PatternKind

if TYPE_CHECKING:
    from attnframe.data.schema import Alignment

Place = tuple[str, int]
"""(site, layer), layers from 0."""
Head = tuple[str, int, int]
"""(site, layer, head), both from 0."""
Cell = str | float | int | None
Trace = Sequence[float | None]
"""A number for each of the run's `steps`; None where there is none. NaN and infinity count as none."""


@dataclass(frozen=True)
class PagePattern:
    """The patterns of one site and layer on one sentence, at each of the run's pattern steps.

    `weights` is [time, heads, query, key], any floating type, NaN and infinity allowed. `contributions` has the same
    shape: the norms ‖P_ij·V_j·W_O‖ of what key j adds to query i through a head (Kobayashi et al. 2020,
    https://arxiv.org/abs/2004.10102); None where they are not defined or were not recorded.
    """

    kind: PatternKind
    weights: NDArray[Any]
    contributions: NDArray[Any] | None = None


@dataclass(frozen=True)
class PageSentence:
    """One sentence and its translation. Two runs are put side by side on sentences of equal `source`.

    `labels` holds by site the (query labels, key labels), any text. `alignment` are the gold links of `cross`:
    (source, target) is the cell in column `source` and row `target`. `patterns` is by (site, layer), layers from 0.
    """

    source: str
    target: str
    labels: Mapping[str, tuple[Sequence[str], Sequence[str]]]
    patterns: Mapping[Place, PagePattern]
    alignment: Alignment | None = None


@dataclass(frozen=True)
class PageTable:
    """A table at the end of the page; `rows` are as long as `columns`."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    caption: str = ""


@dataclass(frozen=True)
class PageRun:
    """One run. `steps` (rising) is the time axis of the page and of every trace.

    `pattern_steps` (rising, all of them in `steps`) is the time axis of every pattern; None where it is all of `steps`.
    `traces` are by name (`val/loss`), `head_traces` by head and then by name (`entropy`). `importance` is what the
    loss rises by, in nats per target token, when a head is zeroed. `opening` is the head that the run's alignment error
    rate is read from, with which the page opens; where it is None the page looks for one.
    """

    name: str
    steps: Sequence[int]
    sentences: Sequence[PageSentence]
    subtitle: str = ""
    traces: Mapping[str, Trace] = field(default_factory=dict)
    head_traces: Mapping[Head, Mapping[str, Trace]] = field(default_factory=dict)
    tables: Sequence[PageTable] = ()
    importance: Mapping[Head, float] | None = None
    pattern_steps: Sequence[int] | None = None
    opening: Head | None = None

    @property
    def shown_steps(self) -> Sequence[int]:
        """The steps that have patterns."""
        return self.steps if self.pattern_steps is None else self.pattern_steps
