"""PyTorch's FlexAttention: a kernel compiled around score_mod and mask, which skips the blocks that a mask hides."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import flex_attention

from attnframe.backends.base import Backend, MaskMod, Normaliser, Request, ScoreMod
from attnframe.backends.block_masks import block_mask, filled_up, scalar, shifted, within
from attnframe.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float

    from attnframe.attention.mask import Mask

_LEAST_CUDA_DIM = 16

# Looked up once: torch.compile traces the choice of a backend, and cannot trace these.
_CPU_CAPABILITY = "" if sys.platform == "darwin" else torch.backends.cpu.get_cpu_capability()
_HAS_COMPILER = shutil.which(os.environ.get("CXX") or ("cl" if sys.platform == "win32" else "g++")) is not None

_MOST_KERNELS = 4096
"""Of one process. PyTorch's own limit, 8, is for functions of one shape."""


class Flex(Backend):
    """torch.nn.attention.flex_attention, compiled for each score_mod, mask_mod and head_dim when it is first called.

    Dong et al. 2024, https://arxiv.org/abs/2412.05496;
    https://docs.pytorch.org/docs/stable/nn.attention.flex_attention.html. On a GPU one kernel takes all lengths but 1.
    On the CPU each has its lengths, so that queries and keys are filled up to blocks and the batch to a power of 2.
    """

    name = "flex"
    only_by_name = "flex compiles for seconds to minutes before the first step, so it is taken only by name"

    def unsupported(self, request: Request) -> list[str]:
        if request.device not in ("cuda", "cpu"):
            return [f"flex has kernels for cuda and cpu, and none for {request.device}"]
        reasons = []
        if request.normaliser:
            reasons.append("flex has no normaliser but the softmax")
        if request.dropout:
            reasons.append("flex has no dropout on the weights")
        if request.dtype == torch.float64:
            reasons.append("flex has no float64")
        return reasons + (_against_cpu(request) if request.device == "cpu" else _against_cuda(request))

    def attend(
        self,
        q: Float[Tensor, "batch heads query head_dim"],
        k: Float[Tensor, "batch key_heads key head_dim"],
        v: Float[Tensor, "batch key_heads key value_dim"],
        mask: Mask,
        *,
        scale: float,
        dropout: float,
        score_mod: ScoreMod | None,
        mask_mod: MaskMod | None,
        normaliser: Normaliser | None,
    ) -> Float[Tensor, "batch heads query value_dim"]:
        if 0 in (*mask.shape, v.shape[-1]):
            # Empty tensors kill the process in the CPU's kernel. Sums over no key are zeros, with gradients.
            shared = q.unflatten(1, (k.shape[1], -1)) @ k[:, :, None].transpose(-2, -1)
            return (shared @ v[:, :, None]).flatten(1, 2)
        if not torch.is_grad_enabled():
            # It refuses on the CPU what requires a gradient, also where none is wanted.
            q, k, v = q.detach(), k.detach(), v.detach()
        batch, queries, _ = mask.shape
        if torch.compiler.is_compiling():
            # Inside the graph of somebody else's torch.compile it is compiled along with the rest.
            kernel: Callable[..., Tensor] = flex_attention
        else:
            kernel = _compiled(dynamic=q.is_cuda)
            if not q.is_cuda:
                score_mod, mask_mod = (
                    None if mod is None else within(mod, mask, q.device) for mod in (score_mod, mask_mod)
                )
                mask = mask.once("_filled_up", functools.partial(filled_up, mask, q.device))
                rows, queries_in_blocks, keys_in_blocks = mask.shape
                q = _grown(q, rows, queries_in_blocks)
                k, v = _grown(k, rows, keys_in_blocks), _grown(v, rows, keys_in_blocks)
        output = kernel(
            q,
            k,
            v,
            score_mod=None if score_mod is None else shifted(score_mod, scalar(mask.query_offset, q.device)),
            block_mask=block_mask(mask, mask_mod, q.device),
            scale=scale,
            enable_gqa=k.shape[1] != q.shape[1],
        )
        return output[:batch, :, :queries]


def _against_cpu(request: Request) -> list[str]:
    reasons = []
    if request.trains:
        reasons.append("flex has no backward pass on the CPU, so that it evaluates there and cannot train")
    if _CPU_CAPABILITY not in ("AVX2", "AVX512"):
        reasons.append("flex has a kernel for CPUs with AVX2 only")
    if not _HAS_COMPILER:
        reasons.append("flex compiles its kernel, and there is no C++ compiler here")
    return reasons


def _against_cuda(request: Request) -> list[str]:
    reasons = []
    for name, dim in (("head_dim", request.head_dim), ("value_dim", request.value_dim)):
        if dim < _LEAST_CUDA_DIM:
            reasons.append(f"flex needs a {name} of at least {_LEAST_CUDA_DIM} on a GPU, and it is {dim}")
    if importlib.util.find_spec("triton") is None:
        reasons.append("flex compiles its kernel with triton, which is not installed")
    return reasons


@functools.cache
def _compiled(*, dynamic: bool) -> Callable[..., Tensor]:
    """flex_attention as a kernel, `dynamic` in its lengths: uncompiled it would form all scores, and only warn."""
    # Here, for importing the compiler takes seconds.
    import torch._dynamo.config as compiler_config
    from torch._dynamo.exc import TorchDynamoException

    # As one graph, for what cannot be compiled would be run uncompiled.
    kernel = torch.compile(flex_attention, dynamic=dynamic, fullgraph=True)

    def run(*tensors: Any, **how: Any) -> Tensor:
        limits = {"recompile_limit": _MOST_KERNELS, "accumulated_recompile_limit": _MOST_KERNELS}
        try:
            with compiler_config.patch(limits):
                output: Tensor = kernel(*tensors, **how)
        except TorchDynamoException as error:
            cause = " ".join(line.strip() for line in str(error).splitlines()[:2])
            raise UserError(f"flex cannot compile this attention: {cause}; backend=eager needs no compiler") from error
        return output

    return run


def _grown(x: Float[Tensor, "batch heads length dim"], batch: int, length: int) -> Tensor:
    return F.pad(x, (0, 0, 0, length - x.shape[2], 0, 0, 0, batch - x.shape[0]))
