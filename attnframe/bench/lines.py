"""What is to be measured: a line is one variant on one backend over all lengths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from attnframe import registry
from attnframe.errors import UserError, did_you_mean

DTYPES = {str(dtype).removeprefix("torch."): dtype for dtype in (torch.float32, torch.float16, torch.bfloat16)}
"""The dtypes that can be asked for, by name."""
DTYPES["float64"] = torch.float64

MODULE, ATTEND = "module", "attend"
TIMED = (MODULE, ATTEND)
"""What can be timed: a variant from embeddings to embeddings, or what it asks of `attend` alone, from q, k and v."""


@dataclass(frozen=True, eq=False)
class Line:
    """Self-attention of one variant, in sequences of each of `lengths` tokens.

    `backend` may be "auto". A batch has `batch` sequences, or with `tokens` as many as make that many tokens, at least
    one. `dropout` acts on the weights where gradients are wanted. Raises `UserError` for what cannot be measured
    whatever the variant.
    """

    variant: str
    backend: str
    lengths: tuple[int, ...]
    d_model: int
    num_heads: int
    timed: str = MODULE
    dtype: str = "float32"
    options: Mapping[str, Any] = field(default_factory=dict)
    causal: bool = False
    batch: int = 1
    tokens: int | None = None
    bias: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.timed not in TIMED:
            raise UserError(f"bench.timed: there is no {self.timed!r} to time: {did_you_mean(self.timed, TIMED)}")
        if self.dtype not in DTYPES:
            raise UserError(f"bench.dtypes: there is no dtype {self.dtype!r}: {did_you_mean(self.dtype, DTYPES)}")
        if not self.lengths:
            raise UserError("bench.lengths is empty: give one length at least, for example bench.lengths=[128,256]")
        for name, values in (("lengths", self.lengths), ("batch", (self.batch,)), ("tokens", (self.tokens or 1,))):
            if min(values) < 1:
                raise UserError(f"bench.{name}={list(values) if name == 'lengths' else values[0]}: at least 1")
        # Twice the same length would be one row.
        object.__setattr__(self, "lengths", tuple(sorted(set(self.lengths))))

    @property
    def label(self) -> str:
        """The variant with the options that differ from its defaults."""
        return registry.variants()[self.variant].labelled(self.options)

    def is_as(self, other: Line) -> bool:
        """Whether they differ in the backend alone, if in anything."""
        return {**vars(self), "backend": ""} == {**vars(other), "backend": ""}

    def batch_of(self, length: int) -> int:
        """How many sequences of `length` tokens are in a batch."""
        return self.batch if self.tokens is None else max(1, self.tokens // length)
