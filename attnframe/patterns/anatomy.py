"""One pass through an attention module taken apart: its calls of `attend`, and the ΔE that each head adds."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnframe.attention import AttendCall, Attention, Observer, PatternKind, observe
from attnframe.backends.eager import repeat_heads
from attnframe.patterns.head_maps import output_maps, value_maps
from attnframe.patterns.spectrum import effective_rank, spectrum


@dataclass(frozen=True)
class WorkedCell:
    """One weight, step by step: softmax over the allowed keys of q·k·scale. `query` and `key` count from 0."""

    query: int
    key: int
    product: float
    """q·k."""
    score: float
    """q·k·scale, in nats."""
    normaliser: float
    """Σ_j e^score over the keys that the query may attend to; infinity where a float cannot hold it."""
    weight: float
    """e^score / normaliser."""


@dataclass(frozen=True)
class Anatomy:
    """One `forward` of `module`: the widths it was given, its calls of `attend`, and the kinds that it reported."""

    module: Attention
    d_model: int
    d_context: int
    calls: list[AttendCall] = field(default_factory=list)
    reports: list[PatternKind] = field(default_factory=list)

    @property
    def is_plain(self) -> bool:
        """Whether the pattern is softmax(q·kᵀ·scale) of one call, with nothing added to a score or to the mask."""
        if len(self.calls) != 1 or self.reports:
            return False
        (call,) = self.calls
        return call.score_mod is None and call.mask_mod is None and call.normaliser is None

    def head_deltas(self) -> Float[Tensor, "batch heads query d_model"] | None:
        """ΔE⁽ʰ⁾ of each head without the bias; None where heads differ in number between calls, or there is no call."""
        maps = output_maps(self.module, self.calls, d_model=self.d_model, d_context=self.d_context)
        return None if maps is None else maps.delta([call.output for call in self.calls])

    def value_ranks(self) -> list[float] | None:
        """The effective rank of each head's V, the map from an embedding to the ΔE that it adds (`head_maps`)."""
        maps = value_maps(self.module, d_model=self.d_model, d_context=self.d_context)
        return None if maps is None else [matrix_rank(matrix) for matrix in maps]

    def worked_cell(self, head: int, query: int, key: int) -> WorkedCell:
        """One weight of the first sentence of the batch. The module must be `is_plain`."""
        call = self.calls[0]
        wide = torch.promote_types(call.q.dtype, torch.float32)
        q, keys = (
            x.detach().to(wide) for x in (call.q[0, head, query], repeat_heads(call.k, call.q.shape[1])[0, head])
        )
        products = keys @ q
        scores = (products * call.scale).double()
        row = call.mask.dense()[0, 0, query]
        summed = scores.masked_fill(~row, -torch.inf)
        return WorkedCell(
            query,
            key,
            products[key].item(),
            scores[key].item(),
            summed.exp().sum().item(),
            summed.softmax(-1)[key].item(),
        )


@contextlib.contextmanager
def record_anatomy(model: nn.Module) -> Iterator[dict[tuple[str, int], Anatomy]]:
    """Within this context the latest `forward` of each attention module is in the yielded dict, by (site, layer).

    Keeps q, k, v and output of every call.
    """
    recorder = _Recorder()
    with observe(model, recorder):
        yield recorder.found


def matrix_rank(matrix: Float[Tensor, "rows columns"]) -> float:
    """The effective rank of one matrix (`spectrum.effective_rank`); NaN of one that is not finite."""
    return effective_rank(spectrum(matrix)).item() if matrix.isfinite().all() else math.nan


class _Recorder(Observer):
    def __init__(self) -> None:
        self.found: dict[tuple[str, int], Anatomy] = {}

    def called(self, module: Attention, query: Tensor, key: Tensor, value: Tensor) -> None:
        self.found[module.site, module.layer] = Anatomy(module, query.shape[-1], key.shape[-1])

    def attended(self, module: Attention, call: AttendCall) -> None:
        self.found[module.site, module.layer].calls.append(call)

    def reported(
        self, module: Attention, combine: Callable[..., Tensor], kind: PatternKind, mass: float | Tensor | None
    ) -> None:
        self.found[module.site, module.layer].reports.append(kind)
