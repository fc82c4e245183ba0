"""What a module asks of `attend`, found by running it once on a tiny input."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from attnframe.attention.base import Attention
from attnframe.attention.mask import Mask
from attnframe.attention.observing import AttendCall, Observer
from attnframe.attention.undisturbed import undisturbed


@contextlib.contextmanager
def observe(model: nn.Module, observer: Observer) -> Iterator[None]:
    """Within this context `observer` sees every call of every attention module in `model`."""
    with contextlib.ExitStack() as stack:
        for module in model.modules():
            if isinstance(module, Attention):
                stack.enter_context(module.observed_by(observer))
        yield


class _Calls(Observer):
    def __init__(self) -> None:
        self.calls: list[AttendCall] = []

    def attended(self, module: Attention, call: AttendCall) -> None:
        self.calls.append(call)


def trace_attend(
    module: Attention, *, d_model: int, d_context: int, length: int = 2, mask: Mask | None = None
) -> list[AttendCall]:
    """The `attend` calls of one forward pass of `length` zero embeddings, on the module's device and in its dtype.

    Works on the meta device, where nothing is computed.
    """
    like = next(module.parameters(), torch.empty(0))
    query = torch.zeros(1, length, d_model, device=like.device, dtype=like.dtype)
    context = query if d_context == d_model else query.new_zeros(1, length, d_context)
    log = _Calls()
    # On eager, for what is asked of a backend does not depend on it, and another may first have to be compiled.
    with undisturbed(module), torch.no_grad(), module.set_apart(), module.observed_by(log):
        module(query, context, context, mask)
    return log.calls
