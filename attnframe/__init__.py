"""Attention variants, one file each: write one, train it, see what it attends to."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from attnframe.errors import UserError
from attnframe.registry import register_attention

if TYPE_CHECKING:
    from attnframe.attention import (
        Attention,
        Mask,
        build_attention,
        masked_softmax,
        merge_heads,
        record_row_statistics,
        split_heads,
    )
    from attnframe.patterns import record_patterns
    from attnframe.runs.loading import load_run

__version__ = "0.1.0"

# Loaded when first asked for: `attnframe --help` needs no torch.
_HOMES = {
    "Attention": "attnframe.attention",
    "Mask": "attnframe.attention",
    "build_attention": "attnframe.attention",
    "load_run": "attnframe.runs.loading",
    "masked_softmax": "attnframe.attention",
    "merge_heads": "attnframe.attention",
    "record_patterns": "attnframe.patterns",
    "record_row_statistics": "attnframe.attention",
    "split_heads": "attnframe.attention",
}

__all__ = [
    "Attention",
    "Mask",
    "UserError",
    "build_attention",
    "load_run",
    "masked_softmax",
    "merge_heads",
    "record_patterns",
    "record_row_statistics",
    "register_attention",
    "split_heads",
]


def __getattr__(name: str) -> object:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
