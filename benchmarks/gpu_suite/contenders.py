"""What is measured side by side: our kernels, and those that PyTorch brings."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from gpu_suite.rows import Row

OURS = "triton"
STATISTICS = "triton with statistics"
FLEX = "flex"
PEERS = {"cudnn": SDPBackend.CUDNN_ATTENTION, "flash": SDPBackend.FLASH_ATTENTION}

Call = Callable[[], tuple[Tensor, ...]]
Attend = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, ...]]


def names(row: Row) -> list[str]:
    """Who is asked to run this row, ours first."""
    return [OURS, STATISTICS, *PEERS, *([FLEX] if row.flex else [])]


def inputs(row: Row, device: torch.device, dtype: torch.dtype = torch.bfloat16) -> tuple[Tensor, ...]:
    """q, k, v and a cotangent of the output, [batch, heads, length, head_dim], rows of a token beside each other."""
    generator = torch.Generator(device).manual_seed(37)
    shape = (row.batch, row.length, row.heads, row.head_dim)
    drawn = (torch.randn(shape, generator=generator, device=device, dtype=dtype) for _ in range(4))
    return tuple(x.transpose(1, 2) for x in drawn)


def prepared(name: str, row: Row, q: Tensor, k: Tensor, v: Tensor, cotangent: Tensor) -> Call:
    """What is timed: the forward, which returns the output first, or the backward alone, which returns (dQ, dK, dV).

    With statistics the forward gives them too, and the backward goes through output, log-sum-exp and entropy.
    """
    attend = _attend(name, row)
    if row.direction == "forward":
        return functools.partial(_without_gradients, attend, q, k, v)
    leaves = tuple(x.detach().requires_grad_() for x in (q, k, v))
    outputs = attend(*leaves)
    # Statistics are float32; their share of the gradient is made small, so that peers can still be compared.
    cotangents = [cotangent, *(torch.full_like(x, 1e-6) for x in outputs[1:])]

    def backward() -> tuple[Tensor, ...]:
        return torch.autograd.grad(outputs, leaves, cotangents, retain_graph=True)

    return backward


def _attend(name: str, row: Row) -> Attend:
    if name in (OURS, STATISTICS):
        return functools.partial(_triton, row, name == STATISTICS)
    if name == FLEX:
        return functools.partial(_flex(), **_flex_arguments(row))
    return functools.partial(_sdpa, PEERS[name], row)


def _without_gradients(attend: Attend, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    with torch.no_grad():
        return attend(q, k, v)


def _triton(row: Row, statistics: bool, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    from attnframe.backends.triton.attention import attention

    result = attention(q, k, v, scale=row.head_dim**-0.5, causal=row.causal, statistics=statistics)
    if not statistics:
        return (result.output,)
    assert result.entropy is not None
    return result.output, result.lse, result.entropy


def _sdpa(kernel: SDPBackend, row: Row, q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, ...]:
    with sdpa_kernel(kernel):
        return (F.scaled_dot_product_attention(q, k, v, is_causal=row.causal),)


@functools.cache
def _flex() -> Callable[..., tuple[Tensor, ...]]:
    import torch._dynamo.config as compiler_config
    import torch._functorch.config as autograd_config
    from torch.nn.attention.flex_attention import flex_attention

    # One kernel for each shape, which is the fastest that it has without a search.
    compiler_config.recompile_limit = 64
    # Its backward is run again and again.
    autograd_config.donated_buffer = False
    compiled = torch.compile(flex_attention, dynamic=False, fullgraph=True)

    def run(q: Tensor, k: Tensor, v: Tensor, **arguments: Any) -> tuple[Tensor, ...]:
        return (compiled(q, k, v, **arguments),)

    return run


def _flex_arguments(row: Row) -> dict[str, Any]:
    if not row.causal:
        return {}
    from torch.nn.attention.flex_attention import create_block_mask

    def under_the_diagonal(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return query >= key

    return {"block_mask": create_block_mask(under_the_diagonal, None, None, row.length, row.length, device="cuda")}
