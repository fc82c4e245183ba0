"""The processes that make one run together, and what they tell each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")

# Others wait while the first process validates. One that has died is noticed at once, and not by this.
PATIENCE = timedelta(days=2)


class World:
    """`size` processes; this one is `rank`, of which 0 is the first: the one that writes and evaluates.

    Everything that tells something is collective: each process must call it at the same place of the run. A world of
    one has nobody to tell. `look_around` raises where another process is known to have died.
    """

    def __init__(self, rank: int = 0, size: int = 1, look_around: Callable[[], None] | None = None) -> None:
        self.rank, self.size = rank, size
        self.look_around = look_around or (lambda: None)
        self._group: dist.ProcessGroup | None = None

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def connect(self, store: dist.Store, device: torch.device) -> None:
        """Meet the others at `store`; `device` is where this one computes."""
        backend = "nccl" if device.type == "cuda" else "gloo"
        if device.type == "cuda":
            torch.cuda.set_device(device)
        dist.init_process_group(backend, store=store, rank=self.rank, world_size=self.size, timeout=PATIENCE)
        # What is told is small and on the CPU: a GPU need not wait for it.
        self._group = dist.new_group(backend="gloo", timeout=PATIENCE)

    def disconnect(self) -> None:
        """Take no part any more."""
        if self._group is not None:
            dist.destroy_process_group()
            self._group = None

    def from_first(self, value: T) -> T:
        """The first process's `value`, whatever the others give."""
        if self._group is None:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, group=self._group)
        return box[0]

    def first_says(self, yes: bool) -> bool:
        """The first process's `yes`: as `from_first`, and cheap enough for each step."""
        if self._group is None:
            return yes
        flag = torch.tensor([yes])
        dist.broadcast(flag, src=0, group=self._group)
        return bool(flag)

    def means(self, values: Mapping[str, float]) -> dict[str, float]:
        """Of each value the mean over the processes; all of them give the same names in the same order."""
        if self._group is None:
            return dict(values)
        numbers = torch.tensor(list(values.values()), dtype=torch.float64)
        dist.all_reduce(numbers, group=self._group)
        return dict(zip(values, (numbers / self.size).tolist(), strict=True))

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes, without waiting for it where `values` is on a GPU; without a gradient."""
        return self._reduced(values, dist.ReduceOp.SUM)

    def greatest(self, values: Tensor) -> Tensor:
        """Of each value the greatest of all processes, as `total`."""
        return self._reduced(values, dist.ReduceOp.MAX)

    def _reduced(self, values: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        if self._group is None:
            return values
        values = values.detach().clone()
        # Not the group for what is told: this is where the values are.
        dist.all_reduce(values, operation)
        return values

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        if self._group is None:
            return [value]
        box: list[Any] = [None] * self.size
        dist.all_gather_object(box, value, group=self._group)
        return box


ALONE = World()
