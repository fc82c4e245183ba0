"""How softmax(QKᵀ·scale)V is computed. `eager` is the definition of correct; the others must match it or decline."""

from attnframe.backends.base import Backend, MaskMod, Request, ScoreMod
from attnframe.backends.eager import Eager, attention_weights, masked_softmax
from attnframe.backends.resolution import BackendError, Resolution, backends, resolve
from attnframe.backends.sdpa import Sdpa

__all__ = [
    "Backend",
    "BackendError",
    "Eager",
    "MaskMod",
    "Request",
    "Resolution",
    "ScoreMod",
    "Sdpa",
    "attention_weights",
    "backends",
    "masked_softmax",
    "resolve",
]
