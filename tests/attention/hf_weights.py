"""Hugging Face's attention modules beside ours: our weights in theirs, their masks, and what has to be the same.

They are called with one sequence, so query, key and value are the same here. Each row of a mask keeps a key at least:
theirs have no rows that see nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import Attention, Mask

CLOSE = {"rtol": 1e-5, "atol": 1e-5}

# Whether it is causal, and whether it is padded.
MASKS = {"open": (False, False), "causal": (True, False), "padding": (False, True), "both": (True, True)}

PROJECTIONS = {"query_proj": "q_proj", "key_proj": "k_proj", "value_proj": "v_proj", "output_proj": "o_proj"}


def copy_projections(ours: Attention, theirs: nn.Module, names: dict[str, str] = PROJECTIONS) -> None:
    """Give `theirs` the weights of `ours`, and the biases where both have them."""
    for our_name, their_name in names.items():
        theirs.get_submodule(their_name).load_state_dict(ours.get_submodule(our_name).state_dict())


def mask_of(kind: str, batch: int, length: int) -> Mask:
    """One of `MASKS`; padding leaves rows of different lengths, the last of one token."""
    causal, padding = MASKS[kind]
    lengths = torch.linspace(length, 1, batch).long()
    return Mask(key_keep=torch.arange(length) < lengths[:, None] if padding else None, causal=causal)


def additive(mask: Mask, x: Tensor) -> Tensor:
    """[batch, 1, query, key]: 0 where attention is allowed, and the lowest number elsewhere."""
    keep = mask.bind(x.shape[0], x.shape[1], x.shape[1], x.device).dense()
    return torch.zeros(keep.shape, dtype=x.dtype).masked_fill(~keep, torch.finfo(x.dtype).min)


def no_rotation(length: int, head_dim: int) -> tuple[Tensor, Tensor]:
    """(cos, sin) by which their RoPE turns nothing."""
    return torch.ones(1, length, head_dim), torch.zeros(1, length, head_dim)


def require_same(
    ours: Callable[[Tensor], Tensor], theirs: Callable[[Tensor], Tensor], *, batch: int, length: int, d_model: int
) -> None:
    """Both give the same of the same random embeddings, and the same gradients at them, in fp32."""
    torch.manual_seed(7)
    x = torch.randn(batch, length, d_model, requires_grad=True)
    other_x = x.detach().clone().requires_grad_()
    output, expected = ours(x), theirs(other_x)
    assert_close(output, expected, **CLOSE)
    cotangent = torch.randn_like(expected) / expected.shape[1]
    output.backward(cotangent)
    expected.backward(cotangent)
    assert_close(x.grad, other_x.grad, **CLOSE)
