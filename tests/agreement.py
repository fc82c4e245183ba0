"""Whether a variant and an independent implementation compute the same, outputs and gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.testing import assert_close

from attnframe import Mask

BATCH, TOKENS, LENGTHS = 3, 7, (4, 7, 1)
FP32 = {"rtol": 1e-5, "atol": 1e-5}

MASKS = {
    "open": Mask(),
    "causal": Mask(causal=True),
    "padding": Mask(key_keep=torch.arange(TOKENS) < torch.tensor(LENGTHS)[:, None]),
    "both": Mask(key_keep=torch.arange(TOKENS) < torch.tensor(LENGTHS)[:, None], causal=True),
}
"""Of `BATCH` sequences of `TOKENS` tokens; every query may attend to at least one key."""


def dense(mask: Mask) -> Tensor:
    """Bool[batch, 1, query, key] of one of `MASKS`, True where the query may attend."""
    return mask.bind(BATCH, TOKENS, TOKENS).dense()


def additive(mask: Mask) -> Tensor:
    """One of `MASKS` as what is added to scores: 0 or the lowest number of fp32."""
    return torch.zeros(BATCH, 1, TOKENS, TOKENS).masked_fill(~dense(mask), torch.finfo(torch.float32).min)


def assert_same(
    ours: Callable[..., Tensor],
    theirs: Callable[..., Tensor],
    inputs: Sequence[Tensor],
    *,
    parameters: Sequence[tuple[Tensor, Tensor]] = (),
    **tolerance: float,
) -> None:
    """Both give the same for `inputs`, and send the same gradients back to them and to `parameters`.

    A pair of `parameters` is one of ours and the same of theirs, which may have further axes of length 1.
    """
    results = []
    for function, own in ((ours, [pair[0] for pair in parameters]), (theirs, [pair[1] for pair in parameters])):
        given = [x.detach().clone().requires_grad_() for x in inputs]
        output = function(*given)
        cotangent = torch.randn(output.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        results.append((output, torch.autograd.grad(output, [*given, *own], cotangent.to(output.dtype))))
    (output, gradients), (expected, expected_gradients) = results
    assert_close(output, expected, **tolerance)
    for gradient, wanted in zip(gradients, expected_gradients, strict=True):
        assert_close(gradient, wanted.reshape(gradient.shape), **tolerance)
