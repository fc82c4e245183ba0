"""How softmax(QKᵀ·scale)V is computed. `eager` is the definition of correct; the others must match it or decline."""

from attnframe.backends.base import Backend, MaskMod, Normaliser, Request, ScoreMod
from attnframe.backends.eager import Eager, attention_weights, masked_softmax
from attnframe.backends.flex import Flex
from attnframe.backends.resolution import BackendError, Resolution, backends, dtype_of, reasons_against, resolve
from attnframe.backends.row_statistics import RowStatistics
from attnframe.backends.score_mods import Chain, DistanceBias, KeyBias, Softcap, chained
from attnframe.backends.sdpa import Sdpa
from attnframe.backends.triton.backend import Triton

__all__ = [
    "Backend",
    "BackendError",
    "Chain",
    "DistanceBias",
    "Eager",
    "Flex",
    "KeyBias",
    "MaskMod",
    "Normaliser",
    "Request",
    "Resolution",
    "RowStatistics",
    "ScoreMod",
    "Sdpa",
    "Softcap",
    "Triton",
    "attention_weights",
    "backends",
    "chained",
    "dtype_of",
    "masked_softmax",
    "reasons_against",
    "resolve",
]
