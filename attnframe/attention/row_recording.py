"""Collecting the row statistics of `attend` while a model runs, without changing what it computes."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from torch import nn

from attnframe.attention.base import Attention
from attnframe.attention.observing import AttendCall, Observer
from attnframe.attention.tracing import observe, trace_attend
from attnframe.backends import RowStatistics

_NO_SOFTMAX = "has a normaliser in the place of the softmax, whose rows have no log-sum-exp"
_NO_ATTEND = "computes its attention itself, and only the rows of attend have statistics"
_OTHER_ROWS = "calls attend with other queries than it is given"

# A prime, so that queries put together in another way have another shape.
_LENGTH = 3


class RecordedRows(Mapping[tuple[str, int], list[RowStatistics]]):
    """Row statistics by (site, layer), in the order of their first calls: of each module one for each `attend` call.

    A call with a normaliser in the place of the softmax has none; `missing` says so.
    """

    def __init__(self) -> None:
        self.missing: dict[tuple[str, int], str] = {}
        """Why a module has less than one for each call, by (site, layer)."""
        self._rows: dict[tuple[str, int], list[RowStatistics]] = {}

    def __getitem__(self, place: tuple[str, int]) -> list[RowStatistics]:
        return self._rows[place]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, place: tuple[str, int], statistics: RowStatistics) -> None:
        """One more call at `place`."""
        self._rows.setdefault(place, []).append(statistics)


@contextlib.contextmanager
def record_row_statistics(model: nn.Module, *, differentiable: bool = True) -> Iterator[RecordedRows]:
    """Within this context every `attend` in `model` leaves log-sum-exp, greatest score and entropy of each row.

    The same backend runs and gives the same outputs. `triton` has the statistics from its kernel; beside any other
    they are computed from scores that are formed in full, in memory of [query, key] for each head. Unless
    `differentiable` they are detached. They stay with who was given them: for each batch a context of its own.
    """
    rows = RecordedRows()
    with observe(model, _Recorder(rows, differentiable)):
        yield rows


def why_without_statistics(module: Attention, *, d_model: int, d_context: int) -> str:
    """What keeps `module` from having the statistics of a softmax for each of its queries, as a predicate; empty where
    it has them. It is run once on a tiny input."""
    calls = trace_attend(module, d_model=d_model, d_context=d_context, length=_LENGTH)
    if not calls:
        return _NO_ATTEND
    if any(call.normaliser is not None for call in calls):
        return _NO_SOFTMAX
    if any((call.q.shape[0], call.q.shape[2]) != (1, _LENGTH) for call in calls):
        return _OTHER_ROWS
    return ""


class _Recorder(Observer):
    wants_statistics = True

    def __init__(self, rows: RecordedRows, differentiable: bool) -> None:
        self._rows = rows
        self._differentiable = differentiable

    def attended(self, module: Attention, call: AttendCall) -> None:
        place = (module.site, module.layer)
        if call.statistics is None:
            self._rows.missing[place] = f"{type(module).__name__} {_NO_SOFTMAX}"
        else:
            self._rows.add(place, call.statistics if self._differentiable else call.statistics.detached())
