"""PyTorch's FlexAttention: a kernel compiled around score_mod and mask, which skips the blocks that a mask hides."""

from __future__ import annotations

import dataclasses
import functools
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from attnframe.backends.base import Backend, MaskMod, Normaliser, Request, ScoreMod
from attnframe.errors import UserError

if TYPE_CHECKING:
    from attnframe.attention.mask import Mask

_BLOCK = 128
"""Queries, and keys, to a block."""

_LEAST_CUDA_DIM = 16

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
                    None if mod is None else _within(mod, mask, q.device) for mod in (score_mod, mask_mod)
                )
                mask = mask.once("_filled_up", functools.partial(_filled_up, mask, q.device))
                q, k, v = (
                    _grown(x, mask.shape[0], length) for x, length in zip((q, k, v), (*mask.shape[1:], mask.shape[2]))
                )
        output = kernel(
            q,
            k,
            v,
            score_mod=None if score_mod is None else _shifted(score_mod, _number(mask.query_offset, q.device)),
            block_mask=_block_mask(mask, mask_mod, q.device),
            scale=scale,
            enable_gqa=k.shape[1] != q.shape[1],
        )
        return output[:batch, :, :queries]


def _against_cpu(request: Request) -> list[str]:
    reasons = []
    if request.trains:
        reasons.append("flex has no backward pass on the CPU, so that it evaluates there and cannot train")
    if sys.platform == "darwin" or torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        reasons.append("flex has a kernel for CPUs with AVX2 only")
    if shutil.which(os.environ.get("CXX") or ("cl" if sys.platform == "win32" else "g++")) is None:
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

    def run(*tensors: Tensor, **how: object) -> Tensor:
        limits = {"recompile_limit": _MOST_KERNELS, "accumulated_recompile_limit": _MOST_KERNELS}
        try:
            with compiler_config.patch(limits):
                output: Tensor = kernel(*tensors, **how)
        except TorchDynamoException as error:
            cause = " ".join(line.strip() for line in str(error).splitlines()[:2])
            raise UserError(f"flex cannot compile this attention: {cause}; backend=eager needs no compiler") from error
        return output

    return run


def _filled_up(mask: Mask, device: torch.device) -> Mask:
    """`mask` for the lengths and the batch that a kernel of the CPU is made for, hiding what is added.

    Kernels for any length do not always compile there: PyTorch 2.13 replaces a size's name by another's in the C++ code
    that it writes, and with it the beginning of names that are longer.
    """
    batch, queries, keys = mask.shape
    rows = 1 << (batch - 1).bit_length()
    key_keep = torch.ones(batch, keys, dtype=torch.bool, device=device) if mask.key_keep is None else mask.key_keep
    key_keep = F.pad(key_keep, (0, -keys % _BLOCK, 0, rows - batch))
    filled_up = dataclasses.replace(mask, key_keep=key_keep)
    return filled_up.bind(rows, 1 if queries == 1 else queries + -queries % _BLOCK, key_keep.shape[1])


def _grown(x: Float[Tensor, "batch heads length dim"], batch: int, length: int) -> Tensor:
    return F.pad(x, (0, 0, 0, length - x.shape[2], 0, 0, 0, batch - x.shape[0]))


def _within(mod: Callable[..., Tensor], mask: Mask, device: torch.device) -> Callable[..., Tensor]:
    """A score_mod or mask_mod, which is asked for the last index in the place of those that are added."""
    batch, queries, keys = mask.shape
    last_row, last_query, last_key = (
        _number(number - 1, device) for number in (batch, mask.query_offset + queries, keys)
    )

    def within(*of: Tensor) -> Tensor:
        *score, row, head, q_idx, kv_idx = of
        return mod(*score, row.minimum(last_row), head, q_idx.minimum(last_query), kv_idx.minimum(last_key))

    return within


def _block_mask(mask: Mask, mask_mod: MaskMod | None, device: torch.device) -> BlockMask | None:
    """What `mask` and `mask_mod` hide, None for nothing. Without a mask_mod it is made once for a bound mask."""
    if mask_mod is not None:
        return _make_block_mask(mask, mask_mod, device)
    if mask.key_keep is None and mask.window is None and not _hides_what_follows(mask):
        return None
    return mask.once("_block_mask", lambda: _make_block_mask(mask, None, device))


def _make_block_mask(mask: Mask, mask_mod: MaskMod | None, device: torch.device) -> BlockMask:
    _, queries, keys = mask.shape
    some, whole = _blocks(mask, device)
    if mask_mod is not None:
        # Which blocks it leaves whole or empty only a look at all its [query, key] would tell.
        whole = torch.zeros_like(whole)
    return BlockMask.from_kv_blocks(
        *_listed(some & ~whole),
        *_listed(whole),
        BLOCK_SIZE=_BLOCK,
        mask_mod=_keep(mask, mask_mod, device),
        seq_lengths=(queries, keys),
    )


def _blocks(
    mask: Mask, device: torch.device
) -> tuple[Bool[Tensor, "#batch q_blocks kv_blocks"], Bool[Tensor, "#batch q_blocks kv_blocks"]]:
    """Blocks in which `mask` keeps something (or a few more), and those full blocks in which it keeps all."""
    _, queries, keys = mask.shape
    ahead, behind = _reach(mask)
    end = mask.query_offset + queries
    first_query = torch.arange(mask.query_offset, end, _BLOCK, device=device)[:, None]
    first_key = torch.arange(0, keys, _BLOCK, device=device)
    lowest = first_key - (first_query + _BLOCK - 1).clamp(max=end - 1)
    highest = (first_key + _BLOCK - 1).clamp(max=keys - 1) - first_query
    some = ((lowest <= ahead) & (highest >= -behind))[None]
    whole = ((highest <= ahead) & (lowest >= -behind))[None]
    whole = whole & (first_query + _BLOCK <= end) & (first_key + _BLOCK <= keys)
    if mask.key_keep is not None:
        kept = F.pad(mask.key_keep, (0, -keys % _BLOCK)).unflatten(-1, (-1, _BLOCK))[:, None]
        some, whole = some & kept.any(-1), whole & kept.all(-1)
    return some, whole


def _listed(blocks: Bool[Tensor, "batch q_blocks kv_blocks"]) -> tuple[Tensor, Tensor]:
    """How many blocks of each row are True, and the numbers of all of them with those first."""
    of_heads = blocks[:, None].int()
    return of_heads.sum(-1, dtype=torch.int32), of_heads.argsort(dim=-1, descending=True, stable=True).int()


def _keep(mask: Mask, mask_mod: MaskMod | None, device: torch.device) -> MaskMod:
    """`mask` and `mask_mod` as one mask_mod of the indices that the kernel counts."""
    # As tensors: another number in a closure would be another kernel.
    offset, ahead, behind = (_number(number, device) for number in (mask.query_offset, *_reach(mask)))
    key_keep = mask.key_keep

    def keep(batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        position = q_idx + offset
        kept = (kv_idx - position <= ahead) & (position - kv_idx <= behind)
        if key_keep is not None:
            kept = kept & key_keep[batch, kv_idx]
        if mask_mod is not None:
            kept = kept & mask_mod(batch, head, position, kv_idx)
        return kept

    return keep


def _reach(mask: Mask) -> tuple[int, int]:
    """How many places ahead of its own and behind it a query sees."""
    _, queries, keys = mask.shape
    behind = mask.query_offset + queries + keys if mask.window is None else mask.window
    return 0 if _hides_what_follows(mask) else behind, behind


def _hides_what_follows(mask: Mask) -> bool:
    """Whether causality hides anything: from the last position on, as in cached decoding, it hides no key."""
    return mask.causal and mask.query_offset < mask.shape[2] - 1


def _shifted(score_mod: ScoreMod, offset: Tensor) -> ScoreMod:
    """`score_mod` of positions, where the kernel counts its queries from 0."""

    def shifted(score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return score_mod(score, batch, head, q_idx + offset, kv_idx)

    return shifted


def _number(number: int, device: torch.device) -> Tensor:
    return torch.full((), number, device=device)
