"""p-values of several questions asked at once."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the order of `p_values`: below α with a chance of at most α that any true null is.

    The k-th smallest of m is multiplied by m - k + 1, and none is smaller than one before it (Holm 1979,
    https://www.jstor.org/stable/4615733).
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted
