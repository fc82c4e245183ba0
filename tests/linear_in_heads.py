"""Whether what a variant makes of its heads is one linear map, found without looking for that map."""

from __future__ import annotations

import torch
from torch import Tensor

from attnframe import Attention


def is_linear_in_heads(module: Attention, d_model: int) -> bool:
    """Whether twice the heads' outputs give twice the ΔE, bias apart, and every query makes the same of the same."""
    like = next(module.parameters())
    x = torch.randn(2, 3, d_model, dtype=like.dtype, device=like.device)

    def answer(factor: float) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        with module.changed_by(
            lambda call: (
                factor
                * torch.randn(call.output.shape[1::2], generator=generator)[:, None].to(call.output)
                * torch.ones_like(call.output)
            )
        ):
            return module(x, x, x).detach()

    once, twice, nothing = answer(1.0), answer(2.0), answer(0.0)
    proportional = torch.allclose(twice - nothing, 2 * (once - nothing), rtol=0, atol=1e-9)
    return proportional and torch.allclose(once, once[:1, :1].expand_as(once), rtol=0, atol=1e-9)
