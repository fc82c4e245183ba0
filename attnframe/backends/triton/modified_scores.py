"""A soft cap on the scores of one tile, and biases by distance and by key: for all kernels, in that order."""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)


@triton.jit
def modified_scores(products, query_idx, key_idx, query_offset, scale, softcap, slope, bias, EXACT: tl.constexpr):
    """(s, passed): the scores of q·k, and d s / d (q·k·scale). Indices and `bias` broadcast to the tile; each of
    `softcap`, `slope` and `bias` may be None."""
    scores = products * scale
    passed = 1.0
    if softcap is not None:
        bent = _tanh(scores * (1.0 / softcap), EXACT)
        scores = softcap * bent
        passed = 1.0 - bent * bent
    if slope is not None:
        # In float32, where whole numbers are exact up to 2²⁴, for there are few units that make one of an integer.
        scores -= slope * tl.abs((query_idx + query_offset).to(tl.float32) - key_idx.to(tl.float32))
    if bias is not None:
        scores += bias
    return scores, passed


@triton.jit
def _tanh(x, EXACT: tl.constexpr):
    """tanh x to some 1e-7, with EXACT of its own size. Not the hardware's, which is off by 5e-4 of it."""
    e = tl.exp2(tl.abs(x) * (-2.0 * LOG2_E))
    far = (1.0 - e) / (1.0 + e)
    far = tl.where(x < 0.0, -far, far)
    if EXACT:
        # Near 0 the difference has few digits left. Least squares for tanh x / x on [0, 0.56], to 2e-9.
        y = x * x
        near = -0.33333314 + y * (0.13332474 + y * (-0.05384005 + y * (0.02101913 - y * 0.00619716)))
        return tl.where(y < 0.3, x + x * y * near, far)
    return far
