"""Saying where two tensors differ, and by how much."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from attnframe.testing.verdicts import Failure

EXACT = 1e-9
"""What float64 may differ by, relative to the largest number: rounding, and nothing else."""

AXES = ("batch", "query", "feature")


def require_same(
    actual: Tensor, expected: Tensor, words: str, *, tolerance: float = EXACT, axes: Sequence[str] = AXES
) -> None:
    """Raises `Failure` where `actual` is off by more than `tolerance` of the largest number in `expected`."""
    if actual.shape != expected.shape:
        raise Failure(f"{words}: the shape is {list(actual.shape)}, not {list(expected.shape)}")
    if not actual.numel():
        return
    off = moved(actual, expected)
    allowed = tolerance * max(1.0, largest(expected))
    wrong = ~(off <= allowed)  # so that NaN is wrong
    if wrong.any():
        # NaN is the worst there is.
        worst = int(torch.where(off.isnan(), torch.inf, off).argmax())
        place = torch.unravel_index(torch.tensor(worst), off.shape)
        here = ", ".join(f"{axis} {int(index)}" for axis, index in zip(axes, place, strict=False))
        raise Failure(
            f"{words}: off by {off.flatten()[worst]:.3g} at {here}, where {allowed:.1g} is allowed "
            f"({int(wrong.sum())} of {wrong.numel()} numbers are off)"
        )


def require_finite(tensor: Tensor, words: str) -> None:
    """Raises `Failure` where a number of `tensor` is NaN or infinite."""
    wrong = ~tensor.isfinite()
    if wrong.any():
        raise Failure(
            f"{words}: {int(wrong.sum())} of {tensor.numel()} numbers are not finite, the first is "
            f"{tensor[wrong][0].item()}"
        )


def moved(one: Tensor, other: Tensor) -> Tensor:
    """|one - other|, number by number; 0 where both are the same NaN or infinity."""
    same = (one == other) | (one.isnan() & other.isnan())
    return torch.where(same, 0.0, (one.double() - other.double()).abs().detach())


def largest(tensor: Tensor) -> float:
    """The largest |x| that is a number."""
    return tensor.detach().abs().nan_to_num(0.0, 0.0, 0.0).max().item() if tensor.numel() else 0.0


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """‖actual - expected‖ / ‖expected‖ (Frobenius), in float64."""
    difference = (actual.double() - expected.double()).norm()
    return (difference / expected.double().norm().clamp(min=1e-300)).item()
