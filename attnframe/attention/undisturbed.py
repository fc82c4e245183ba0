"""Running a module to look at it, without a trace: its mode, its buffers and the random numbers stay as they were."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def undisturbed(module: nn.Module) -> Iterator[None]:
    """Within this context `module` is in evaluation mode; afterwards it and the random numbers are as they were.

    So a variant that counts its calls or draws random numbers goes on as if it had not been looked at. Attributes other
    than buffers are not kept.
    """
    modes = [(part, part.training) for part in module.modules()]
    buffers = [
        (part, name, buffer, buffer.clone())
        for part in module.modules()
        for name, buffer in part._buffers.items()
        if buffer is not None and not buffer.is_meta
    ]
    tensors = itertools.chain(module.parameters(), module.buffers())
    devices = {tensor.device.index or 0 for tensor in tensors if tensor.device.type == "cuda"}
    module.eval()
    try:
        with torch.random.fork_rng(devices=sorted(devices)):
            yield
    finally:
        for part, was_training in modes:
            part.training = was_training
        for part, name, buffer, value in buffers:
            part._buffers[name] = buffer
            if not torch.equal(buffer, value):
                # A buffer that was made in inference mode can be written to in inference mode only.
                with torch.no_grad(), torch.inference_mode(buffer.is_inference()):
                    buffer.copy_(value)
