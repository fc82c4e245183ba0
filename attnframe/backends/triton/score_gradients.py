"""The gradient of the scores of one tile, for both backward kernels."""

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E: tl.constexpr = tl.constexpr(1.4426950408889634)
LN_2: tl.constexpr = tl.constexpr(0.6931471805599453)


@triton.jit
def score_gradients(
    scores,
    d_weights,
    peak,
    shift,
    delta,
    d_entropy,
    allowed,
    unit,
    ENTROPY: tl.constexpr,
    EXACT: tl.constexpr,
    MASKED: tl.constexpr,
):
    """(P, dS) = (e^{s - LSE}, P∘(dP - δ - dH·(s - LSE))) with δ = rowsum(dO∘O) - dLSE + dH·H; s = scores·unit.

    `shift` is LSE·log₂e, with EXACT that of s - peak·unit: of scores in the thousands the LSE has no decimals that
    count in float32.
    """
    if EXACT:
        scores -= peak
    bits = scores * (unit * LOG2_E) - shift
    if MASKED:
        # 2^-9999 is 0; with -inf the product with d_entropy would be NaN.
        bits = tl.where(allowed, bits, -9999.0)
    weights = tl.exp2(bits)
    gradients = d_weights - delta
    if ENTROPY:
        gradients -= d_entropy * LN_2 * bits
    return weights, weights * gradients
