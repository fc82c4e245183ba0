"""Attention variants, one file each, and the contract they fulfil."""

import importlib
import pkgutil

from attnframe.attention.base import Attention
from attnframe.attention.build import build_attention, settle_backend
from attnframe.attention.caching import KeyValueCache
from attnframe.attention.functional import (
    linear_attention,
    linear_attention_weights,
    masked_softmax,
    merge_heads,
    split_heads,
)
from attnframe.attention.interventions import intervene, uniform_heads, zero_heads
from attnframe.attention.mask import Mask
from attnframe.attention.observing import AttendCall, Intervention, Observer, PatternKind
from attnframe.attention.row_recording import RecordedRows, record_row_statistics, why_without_statistics
from attnframe.attention.tracing import observe, trace_attend
from attnframe.attention.undisturbed import undisturbed

# Every file here registers what it defines, so a new core variant is one new file.
for _module in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_module.name}")

__all__ = [
    "AttendCall",
    "Attention",
    "Intervention",
    "KeyValueCache",
    "Mask",
    "Observer",
    "PatternKind",
    "RecordedRows",
    "build_attention",
    "intervene",
    "linear_attention",
    "linear_attention_weights",
    "masked_softmax",
    "merge_heads",
    "observe",
    "record_row_statistics",
    "settle_backend",
    "split_heads",
    "trace_attend",
    "undisturbed",
    "uniform_heads",
    "why_without_statistics",
    "zero_heads",
]
