"""Whether what a variant makes of its heads is one linear map, found without looking for that map."""

from __future__ import annotations

import torch
from torch import Tensor

from attnframe import Attention


def is_linear_in_heads(module: Attention, d_model: int) -> bool:
    """Whether twice the heads' outputs give twice the ΔE, bias apart, and every query makes the same of the same."""
    once = _answer(module, d_model, 1.0)
    each_query_alike = torch.allclose(once, once[:1, :1].expand_as(once), rtol=0, atol=1e-9)
    return each_query_alike and is_proportional_to_heads(module, d_model)


def is_proportional_to_heads(module: Attention, d_model: int) -> bool:
    """Whether twice the outputs of `attend` give twice the ΔE, bias apart; so too where it is never called."""
    once, twice, nothing = (_answer(module, d_model, factor) for factor in (1.0, 2.0, 0.0))
    return torch.allclose(twice - nothing, 2 * (once - nothing), rtol=0, atol=1e-9)


def _answer(module: Attention, d_model: int, factor: float) -> Tensor:
    """ΔE where every query of every sentence gets `factor` times the same from `attend`."""
    like = next(module.parameters())
    x = torch.randn(2, 3, d_model, generator=torch.Generator().manual_seed(5)).to(like)
    generator = torch.Generator().manual_seed(3)
    with module.changed_by(
        lambda call: (
            factor
            * torch.randn(call.output.shape[1::2], generator=generator)[:, None].to(call.output)
            * torch.ones_like(call.output)
        )
    ):
        return module(x, x, x).detach()
