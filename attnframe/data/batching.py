"""Batches of sentence pairs: which pairs go together (a token budget), and the padded tensors they become."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Sampler

from attnframe.data.tokenizer import BOS, EOS, PAD
from attnframe.errors import UserError

# Pairs whose lengths differ by less than this factor share a bucket: wide enough to mix a batch anew each epoch, narrow
# enough that padding stays a few per cent.
_BUCKET_RATIO = 1.1


@dataclass(frozen=True, slots=True)
class Example:
    """One encoded pair: its index in the list of pairs, and its ids without BOS and EOS."""

    index: int
    src_ids: Sequence[int]
    tgt_ids: Sequence[int]


@dataclass(slots=True)
class Batch:
    """Padded tensors of some pairs, on one device.

    src       Long[batch, src_length]  source ids, EOS, then PAD
    src_keep  Bool[batch, src_length]  True where `src` is real (EOS is)
    tgt_in    Long[batch, tgt_length]  BOS, target ids, then PAD: what the decoder reads
    tgt_out   Long[batch, tgt_length]  target ids, EOS, then PAD: what it should say at each step
    tgt_keep  Bool[batch, tgt_length]  True where `tgt_in` and `tgt_out` are real
    indices   Long[batch]              place of each pair in the list of pairs
    all_target_tokens                  tokens to predict, EOS counted, of the batch that this is all or a share of
    """

    src: Tensor
    src_keep: Tensor
    tgt_in: Tensor
    tgt_out: Tensor
    tgt_keep: Tensor
    indices: Tensor
    all_target_tokens: int

    def __len__(self) -> int:
        """Number of pairs."""
        return len(self.indices)

    @property
    def num_target_tokens(self) -> int:
        """Tokens to predict, EOS counted and padding not. On an accelerator this waits for the device."""
        return int(self.tgt_keep.sum())

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> Batch:
        """The same batch on `device`."""
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        tensors = {name: value for name, value in values.items() if isinstance(value, Tensor)}
        moved = {name: tensor.to(device, non_blocking=non_blocking) for name, tensor in tensors.items()}
        return Batch(**{**values, **moved})


def collate(examples: Sequence[Example]) -> Batch:
    """The padded batch of `examples`, rows in the order given. Raises ValueError where there are none."""
    if not examples:
        raise ValueError("a batch needs at least one example")
    src, src_keep = _pad([[*example.src_ids, EOS] for example in examples])
    tgt_in, tgt_keep = _pad([[BOS, *example.tgt_ids] for example in examples])
    tgt_out, _ = _pad([[*example.tgt_ids, EOS] for example in examples])
    indices = torch.tensor([example.index for example in examples])
    return Batch(
        src, src_keep, tgt_in, tgt_out, tgt_keep, indices, sum(len(example.tgt_ids) + 1 for example in examples)
    )


def collate_share(examples: Sequence[Example], rank: int, size: int) -> Batch:
    """The share of process `rank` of `size` in the batch of `examples`: every `size`-th row.

    Where there are fewer rows than processes the last ones get a row in which there is nothing to predict.
    """
    batch = collate(examples[rank::size] or examples[:1])
    if rank >= len(examples):
        batch.tgt_out, batch.tgt_keep = torch.full_like(batch.tgt_out, PAD), torch.zeros_like(batch.tgt_keep)
    batch.all_target_tokens = sum(len(example.tgt_ids) + 1 for example in examples)
    return batch


def _pad(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(row) for row in rows])
    longest = int(lengths.max())
    padded = torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])
    return padded, torch.arange(longest) < lengths[:, None]


class TokenBatchSampler(Sampler[list[int]]):
    """Batches of indices of pairs of like length, each at most `max_tokens` large, for `DataLoader(batch_sampler=...)`.

    `lengths` are (source, target) lengths without special tokens. The size of a batch is rows x (longest source +
    longest target), padding and specials counted: EOS on the source, one of BOS and EOS on the target. Every index
    comes once an epoch. With `shuffle`, which pairs share a batch and the order of batches depend on (seed, epoch) and
    nothing else; without, pairs go from short to long, the same each epoch. `begin_at` takes up an epoch in its middle.

    Raises UserError where one pair alone is larger than `max_tokens`; `setting` is what a user calls that.
    """

    def __init__(
        self,
        lengths: Sequence[tuple[int, int]],
        *,
        max_tokens: int,
        seed: int,
        shuffle: bool,
        setting: str = "data.max_tokens",
    ) -> None:
        self._lengths = [(source + 1, target + 1) for source, target in lengths]
        self._max_tokens = max_tokens
        self._seed = seed
        self._shuffle = shuffle
        self._epoch = 0
        self._begin = (0, 0)
        self._batches: list[list[int]] | None = None
        largest = max((source + target for source, target in self._lengths), default=0)
        if largest > max_tokens:
            raise UserError(
                f"{setting} is {max_tokens}, but the longest sentence pair alone has {largest} tokens: "
                f"set {setting} to {largest} or more"
            )

    @property
    def sampler(self) -> TokenBatchSampler:
        """Itself: Lightning tells the epoch to `batch_sampler.sampler`, never to `batch_sampler`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch, counted from 0, whose batches the next iteration gives."""
        if epoch != self._epoch:
            self._epoch = epoch
            if self._shuffle:
                self._batches = None

    def begin_at(self, epoch: int, batch: int) -> None:
        """Leave out the first `batch` batches whenever the epoch is `epoch`; the length stays that of the whole."""
        self._begin = (epoch, batch)

    def __iter__(self) -> Iterator[list[int]]:
        epoch, done = self._begin
        left = self._epoch_batches()[done if epoch == self._epoch else 0 :]
        # Copies, so that who edits a batch does not edit the epoch.
        return (list(batch) for batch in left)

    def __len__(self) -> int:
        """Number of batches in the whole of the current epoch; it may differ from epoch to epoch."""
        return len(self._epoch_batches())

    def _epoch_batches(self) -> list[list[int]]:
        if self._batches is None:
            self._batches = self._make_batches()
        return self._batches

    def _make_batches(self) -> list[list[int]]:
        order = list(range(len(self._lengths)))
        if not self._shuffle:
            return self._fill(sorted(order, key=lambda i: (sum(self._lengths[i]), self._lengths[i], i)))
        # A string seed goes through SHA-512 (not Python's salted hash), so (1, 2) and (2, 1) are unrelated streams.
        rng = random.Random(f"{self._seed},{self._epoch}")
        rng.shuffle(order)
        order.sort(key=lambda i: int(math.log(sum(self._lengths[i]), _BUCKET_RATIO)))
        batches = self._fill(order)
        rng.shuffle(batches)
        return batches

    def _fill(self, order: Sequence[int]) -> list[list[int]]:
        batches: list[list[int]] = []
        longest_source = longest_target = 0
        for index in order:
            source, target = self._lengths[index]
            longest_source, longest_target = max(longest_source, source), max(longest_target, target)
            rows = len(batches[-1]) + 1 if batches else 1
            if batches and rows * (longest_source + longest_target) <= self._max_tokens:
                batches[-1].append(index)
            else:
                batches.append([index])
                longest_source, longest_target = source, target
        return batches
