"""The one mask type, with one meaning: True = may attend."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

if TYPE_CHECKING:
    from jaxtyping import Bool

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, eq=False)
class Mask:
    """Which keys each query may attend to, as structure that a backend can use instead of a dense matrix.

    - `key_keep`: Bool[batch, key], True for a real key, False for padding; None keeps all.
    - `causal`: a query sees no key after its own position.
    - `window`: a query sees only keys at most this many positions away; None is no limit.
    - `query_offset`: position of the first query among the keys, for decoding with cached keys.
    - `key_offset`: position of the first key that `forward` is given, and so the number of keys before it that the
      module's cache holds; 0 without one. Lengths and `key_keep` are of all keys.

    True means "may attend": the opposite of the masks of `torch.nn.MultiheadAttention`. A mask has no lengths of its
    own; calling an attention module binds it to them, outside of one `bind` does.
    """

    key_keep: Bool[Tensor, "batch key"] | None = None
    causal: bool = False
    window: int | None = None
    query_offset: int = 0
    key_offset: int = 0
    _shape: tuple[int, int, int] | None = None
    _device: torch.device | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """(batch, query, key) that this mask is bound to. Raises `ValueError` when it is not bound."""
        if self._shape is None:
            raise ValueError("this mask is not bound to lengths: call mask.bind(batch, query, key) first")
        return self._shape

    def bind(self, batch: int, query: int, key: int, device: torch.device | None = None) -> Mask:
        """The same mask for these lengths. `device` is where `dense` puts its result (default: that of `key_keep`).

        Raises `ValueError` when `key_keep` has another batch or key length.
        """
        if self.key_keep is not None:
            device = self.key_keep.device
            if tuple(self.key_keep.shape) != (batch, key):
                raise ValueError(f"key_keep has shape {tuple(self.key_keep.shape)}, the call needs {(batch, key)}")
        if self._shape == (batch, query, key) and self._device == device:
            return self
        return dataclasses.replace(self, _shape=(batch, query, key), _device=device)

    def dense(self) -> Bool[Tensor, "batch 1 query key"]:
        """The bound mask in full. It is kept, so that the layers that share a bound mask share this as well."""
        return self.once("_dense", self._build_dense)

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` makes of this bound mask, kept as `name` for all who share the mask."""
        kept: T | None = self.__dict__.get(name)
        if kept is None:
            kept = make()
            self.__dict__[name] = kept
        return kept

    def _build_dense(self) -> Tensor:
        batch, queries, keys = self.shape
        q_idx = torch.arange(self.query_offset, self.query_offset + queries, device=self._device)[:, None]
        kv_idx = torch.arange(keys, device=self._device)
        keep = torch.ones(queries, keys, dtype=torch.bool, device=self._device)
        if self.causal:
            keep = keep & (kv_idx <= q_idx)
        if self.window is not None:
            keep = keep & ((kv_idx - q_idx).abs() <= self.window)
        if self.key_keep is not None:
            return keep & self.key_keep[:, None, None, :]
        return keep.repeat(batch, 1, 1, 1)
