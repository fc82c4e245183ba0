"""How softmax(QKᵀ·scale)V is computed. `eager` is the definition of correct; the others must match it or decline."""

from attnframe.backends.base import Backend, MaskMod, Normaliser, Request, ScoreMod
from attnframe.backends.eager import Eager, attention_weights, masked_softmax
from attnframe.backends.flex import Flex
from attnframe.backends.resolution import BackendError, Resolution, backends, dtype_of, reasons_against, resolve
from attnframe.backends.row_statistics import RowStatistics
from attnframe.backends.sdpa import Sdpa
from attnframe.backends.triton.backend import Triton

__all__ = [
    "Backend",
    "BackendError",
    "Eager",
    "Flex",
    "MaskMod",
    "Normaliser",
    "Request",
    "Resolution",
    "RowStatistics",
    "ScoreMod",
    "Sdpa",
    "Triton",
    "attention_weights",
    "backends",
    "dtype_of",
    "masked_softmax",
    "reasons_against",
    "resolve",
]
