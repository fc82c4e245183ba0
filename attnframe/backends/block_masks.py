"""`Mask`, mask_mod and score_mod in the form that FlexAttention takes, which skips hidden blocks of 128 x 128."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention.flex_attention import BlockMask

from attnframe.backends.base import MaskMod, ScoreMod

if TYPE_CHECKING:
    from jaxtyping import Bool

    from attnframe.attention.mask import Mask

_BLOCK = 128
"""Queries, and keys, to a block."""

_LEAST_ROWS = 8
"""To which a batch is filled up on the CPU. Blocks of rows that are added cost nothing: all of them are hidden."""


def block_mask(mask: Mask, mask_mod: MaskMod | None, device: torch.device) -> BlockMask | None:
    """What `mask` and `mask_mod` hide, None for nothing. Without a mask_mod it is made once for a bound mask."""
    if mask_mod is not None:
        return _make_block_mask(mask, mask_mod, device)
    if mask.key_keep is None and mask.window is None and not _hides_what_follows(mask):
        return None
    return mask.once("_block_mask", lambda: _make_block_mask(mask, None, device))


def _make_block_mask(mask: Mask, mask_mod: MaskMod | None, device: torch.device) -> BlockMask:
    _, queries, keys = mask.shape
    some, whole = blocks(mask, device)
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


def blocks(
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


def _listed(table: Bool[Tensor, "batch q_blocks kv_blocks"]) -> tuple[Tensor, Tensor]:
    """How many blocks of each row are True, and the numbers of all of them with those first."""
    of_heads = table[:, None].int()
    return of_heads.sum(-1, dtype=torch.int32), of_heads.argsort(dim=-1, descending=True, stable=True).int()


def _keep(mask: Mask, mask_mod: MaskMod | None, device: torch.device) -> MaskMod:
    """`mask` and `mask_mod` as one mask_mod of the indices that the kernel counts."""
    offset, ahead, behind = (scalar(number, device) for number in (mask.query_offset, *_reach(mask)))
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


def filled_up(mask: Mask, device: torch.device) -> Mask:
    """`mask` for the lengths and the batch that a kernel of the CPU is made for, hiding what is added.

    Kernels for any length do not always compile there: PyTorch 2.13 replaces a size's name by another's in the C++ code
    that it writes, and with it the beginning of names that are longer.
    """
    batch, queries, keys = mask.shape
    rows = max(_LEAST_ROWS, 1 << (batch - 1).bit_length())
    key_keep = torch.ones(batch, keys, dtype=torch.bool, device=device) if mask.key_keep is None else mask.key_keep
    key_keep = F.pad(key_keep, (0, -keys % _BLOCK, 0, rows - batch))
    if queries > 1:
        queries += -queries % _BLOCK
    return dataclasses.replace(mask, key_keep=key_keep).bind(rows, queries, key_keep.shape[1])


def within(mod: Callable[..., Tensor], mask: Mask, device: torch.device) -> Callable[..., Tensor]:
    """A score_mod or mask_mod, which is asked for the last index in the place of those that are added."""
    batch, queries, keys = mask.shape
    last_row, last_query, last_key = (
        scalar(number - 1, device) for number in (batch, mask.query_offset + queries, keys)
    )

    def asked(*of: Tensor) -> Tensor:
        *score, row, head, q_idx, kv_idx = of
        return mod(*score, row.minimum(last_row), head, q_idx.minimum(last_query), kv_idx.minimum(last_key))

    return asked


def shifted(score_mod: ScoreMod, offset: Tensor) -> ScoreMod:
    """`score_mod` of positions, where the kernel counts its queries from 0."""

    def at_position(score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return score_mod(score, batch, head, q_idx + offset, kv_idx)

    return at_position


def scalar(number: int, device: torch.device) -> Tensor:
    """As a tensor, for another number in a closure would be another kernel."""
    return torch.full((), number, device=device)
