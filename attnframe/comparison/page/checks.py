"""What cannot be shown on the page of a comparison is refused here, before anything is put together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Iterable
from typing import Final

from attnframe.comparison.page.content import ComparisonPage, PageCurve, PageDifference
from attnframe.patterns.page.checks import check_run, check_table

AXES: Final = ("step", "seconds", "flops")


def check_page(page: ComparisonPage) -> None:
    """Raises ValueError, with the place and the value, for a page that cannot be shown."""
    if "" in page.groups:
        raise ValueError("a group has no name")
    _check_distinct("table", (table.title for table in page.tables))
    _check_distinct("curve", ((curve.group, curve.metric, curve.axis) for curve in page.curves))
    _check_distinct("difference", ((one.first, one.second, one.measure, one.set) for one in page.differences))
    _check_distinct("group with patterns", (patterns.group for patterns in page.patterns))
    for table in page.tables:
        check_table(table)
    for curve in page.curves:
        _check_curve(curve)
    for difference in page.differences:
        _check_difference(difference)
    for patterns in page.patterns:
        check_run(patterns.run)


def _check_distinct(what: str, names: Iterable[Hashable]) -> None:
    seen = set()
    for name in names:
        if name in seen:
            raise ValueError(f"the {what} {name!r} comes twice")
        seen.add(name)


def _check_curve(curve: PageCurve) -> None:
    where = f"curve of {curve.metric} of {curve.group!r} by {curve.axis}"
    if curve.axis not in AXES:
        raise ValueError(f"{where}: no such axis; it is one of {', '.join(AXES)}")
    if (curve.low is None) != (curve.high is None):
        raise ValueError(f"{where}: a band needs both low and high")
    for name, values in (("mean", curve.mean), ("low", curve.low), ("high", curve.high)):
        if values is not None and len(values) != len(curve.x):
            raise ValueError(f"{where}: {name} has {len(values)} values for {len(curve.x)} places")
    for place in curve.x:
        if not math.isfinite(place):
            raise ValueError(f"{where}: x holds {place}")
    for before, after in itertools.pairwise(curve.x):
        if after < before:
            raise ValueError(f"{where}: x falls from {before} to {after}")
    if curve.low is None or curve.high is None:
        return
    for low, high in zip(curve.low, curve.high, strict=True):
        if low > high:
            raise ValueError(f"{where}: the band's low end {low} is above its high end {high}")


def _check_difference(one: PageDifference) -> None:
    where = f"difference in {one.measure} on {one.set} between {one.first!r} and {one.second!r}"
    if one.first == one.second:
        raise ValueError(f"{where}: a group cannot differ from itself")
    if not math.isfinite(one.difference):
        raise ValueError(f"{where}: it is {one.difference}")
    if math.isnan(one.low) != math.isnan(one.high) or math.isinf(one.low) or math.isinf(one.high) or one.low > one.high:
        raise ValueError(f"{where}: {one.low} to {one.high} is no interval")
    for name, p in (("p", one.p), ("p_holm", one.p_holm)):
        if p is not None and not 0 <= p <= 1:
            raise ValueError(f"{where}: {name} is {p}, not from 0 to 1")
