"""The page's data: maps as 16 bit numbers, everything else as JSON."""

from __future__ import annotations

import base64
import math
import zlib
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from attnframe.attention import PatternKind
from attnframe.patterns.page.content import Cell, PageRun, PageSentence, PageTable, Trace
from attnframe.patterns.page.document import Json

# Codes 0 to 65534 span a map from its low to its high end; one code is kept for what is not finite.
LAST_CODE: Final = 65534
NOT_FINITE: Final = 65535

# Rounding may carry a probability this far beyond 0 or 1.
_ROUNDING: Final = 1e-5


def page_data(runs: Sequence[PageRun], max_times: int) -> Json:
    """Everything that the page reads, with the maps of at most `max_times` steps of each run, the first and last kept.

    `arrays` is the base64 of a zlib stream of little-endian uint16: one map after the other, [time, heads, query, key].
    Where a pattern's numbers begin is its `at`, counted in numbers. `low` and `high` hold the ends of each [time,
    heads] map, or of all maps where they are single numbers. Code c means the number c / 65534 of the way from low to
    high; 65535 means not finite. `shown` are the steps whose maps were kept, of `recorded` steps that have some.
    """
    maps = Maps()
    data = {"runs": [run_data(run, evenly(len(run.shown_steps), max_times), maps) for run in runs]}
    return data | {"arrays": maps.packed()}


class Maps:
    """Collects maps and remembers where each begins; `packed` is what the page unpacks as `arrays`."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, maps: NDArray[Any], *, probabilities: bool) -> Json:
        values = np.asarray(maps, dtype=np.float64)
        finite = np.isfinite(values)
        known = np.where(finite, values, 0.0)
        if probabilities and known.min() >= -_ROUNDING and known.max() <= 1 + _ROUNDING:
            low, high = np.zeros((1, 1)), np.ones((1, 1))
            ends: Json = {"low": 0, "high": 1}
        else:
            low = _tidy(np.where(finite, values, np.inf).min((-2, -1)))
            high = _tidy(np.where(finite, values, -np.inf).max((-2, -1)))
            ends = {"low": low.ravel().tolist(), "high": high.ravel().tolist()}
        codes = _codes(known, low[..., None, None], high[..., None, None])
        codes[~finite] = NOT_FINITE
        place: Json = {"at": self._size, **ends}
        self._size += codes.size
        self._parts.append(codes.astype("<u2").tobytes())
        return place

    def packed(self) -> str:
        return base64.b64encode(zlib.compress(b"".join(self._parts), 9)).decode("ascii")


def _codes(values: NDArray[np.float64], low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.int64]:
    # Divided first, so that the largest floats do not overflow.
    step = high / LAST_CODE - low / LAST_CODE
    places = (values / np.where(step > 0, step, 1.0)) - (low / np.where(step > 0, step, 1.0))
    return places.clip(0, LAST_CODE).round().astype(np.int64)


def _tidy(ends: NDArray[np.float64]) -> NDArray[np.float64]:
    """As short as JSON can tell them apart by 1e-8 of their size; 0 for a map with nothing finite."""
    return np.array([float(f"{end:.9g}") if math.isfinite(end) else 0.0 for end in ends.ravel()]).reshape(ends.shape)


def evenly(count: int, most: int) -> list[int]:
    """At most `most` of 0 ... count - 1, evenly apart, with the first and the last; 2 at least."""
    return sorted({round(place) for place in np.linspace(0, count - 1, max(2, min(count, most)))}) if count else []


def run_data(run: PageRun, times: list[int], maps: Maps) -> Json:
    """A run as the page reads it, its maps added to `maps`: those at the indices `times` into its pattern steps."""
    heads = dict.fromkeys((*run.head_traces, *(run.importance or {})))
    return {
        "name": run.name,
        "subtitle": run.subtitle,
        "steps": [int(step) for step in run.steps],
        "shown": [int(run.shown_steps[time]) for time in times],
        "recorded": len(run.shown_steps),
        "opening": None if run.opening is None else list(run.opening),
        "traces": {name: _trace(values) for name, values in run.traces.items()},
        "heads": [
            {
                "place": list(head),
                "importance": number((run.importance or {}).get(head)),
                "traces": {name: _trace(values) for name, values in run.head_traces.get(head, {}).items()},
            }
            for head in heads
        ],
        "sentences": [_sentence(sentence, times, maps) for sentence in run.sentences],
        "tables": [table_data(table) for table in run.tables],
    }


def _sentence(sentence: PageSentence, times: list[int], maps: Maps) -> Json:
    gold = sentence.alignment
    return {
        "source": sentence.source,
        "target": sentence.target,
        "labels": {site: [list(queries), list(keys)] for site, (queries, keys) in sentence.labels.items()},
        "gold": gold and {"sure": sorted(gold.sure), "possible": sorted(gold.possible - gold.sure)},
        "patterns": [
            {
                "site": site,
                "layer": layer,
                "kind": str(pattern.kind),
                "heads": pattern.weights.shape[1],
                "weights": maps.add(pattern.weights[times], probabilities=pattern.kind is PatternKind.PROBABILITY),
                "contributions": None
                if pattern.contributions is None
                else maps.add(pattern.contributions[times], probabilities=False),
            }
            for (site, layer), pattern in sorted(sentence.patterns.items())
        ],
    }


def table_data(table: PageTable) -> Json:
    """A table as the page reads it."""
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    return {"title": table.title, "caption": table.caption, "columns": list(table.columns), "rows": rows}


def _cell(cell: Cell) -> Cell:
    """What JSON has no number for goes in as its name."""
    if isinstance(cell, float | np.floating):
        return float(cell) if math.isfinite(cell) else "NaN" if math.isnan(cell) else "∞" if cell > 0 else "−∞"
    return int(cell) if isinstance(cell, np.integer) else cell


def _trace(values: Trace) -> list[float | None]:
    return [number(value) for value in values]


def number(value: float | None) -> float | None:
    """Six digits of it; None for what JSON has no number for."""
    return float(f"{value:.6g}") if value is not None and math.isfinite(value) else None
