"""Reductions of the pattern from q, k and log-sum-exp, beside the forward and beside the pattern in memory."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from gpu_suite.contenders import OURS, prepared
from gpu_suite.rows import Row

MODULE = "attnframe.backends.reductions"
PASS = "key reductions"
ROWS = "row reductions"
EAGER = "eager"
BLOCK = 128
"""Whole tiles of every tiling: of other blocks the kernel sums up none, and the pass would be another one."""
LONGEST_EAGER = 4096


def missing() -> str:
    """Why there is nothing to measure, a sentence; empty where there is."""
    if importlib.util.find_spec(MODULE) is None:
        return f"the reductions of the pattern are not measured: this checkout has no {MODULE}"
    return ""


def calls(row: Row, q: Tensor, k: Tensor, v: Tensor, cotangent: Tensor) -> dict[str, Callable[[], tuple[Any, ...]]]:
    """By name what is timed; the pass and `eager` return what each key is given and the map in blocks."""
    from attnframe import Mask
    from attnframe.backends import reductions
    from attnframe.backends.triton.attention import attention

    scale = row.head_dim**-0.5
    mask = Mask().bind(row.batch, row.length, row.length, q.device)
    with torch.no_grad():
        lse = attention(q, k, v, scale=scale).lse

    def keys() -> tuple[Any, ...]:
        edges = reductions.distance_edges(row.length)
        found = reductions.key_reductions(q, k, lse, mask, scale=scale, block=BLOCK, edges=edges)
        return found.received, found.pooled_map

    def rows() -> tuple[Any, ...]:
        found = reductions.row_reductions(q, k, mask, scale=scale)
        return found.entropy, found.argmax

    def materialised() -> tuple[Any, ...]:
        # Without the profile of distances, which would cost it another pass over the matrix.
        weights = ((q * scale) @ k.transpose(-2, -1)).softmax(-1)
        pooled = weights.unflatten(2, (-1, BLOCK)).mean(3).unflatten(3, (-1, BLOCK)).sum(-1)
        return weights.sum(2), pooled

    forward = Row("forward", row.causal, row.head_dim, row.length)
    found = {OURS: prepared(OURS, forward, q, k, v, cotangent), PASS: keys, ROWS: rows}
    return found | ({EAGER: materialised} if row.length <= LONGEST_EAGER else {})
