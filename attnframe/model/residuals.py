"""Watching the residual stream: each token's E before an attention site, and the ΔE that is added to it there."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

from jaxtyping import Float
from torch import Tensor, nn

from attnframe.attention import Attention
from attnframe.model.layers import DecoderLayer, EncoderLayer
from attnframe.model.seq2seq import Seq2Seq


@dataclass(frozen=True)
class Residual:
    """The embeddings of one pass at one site, detached.

    `before` is E, the stream itself and not the normalised copy that the attention reads; `delta` is the ΔE that the
    attention returned. Without dropout the stream goes on as E + ΔE.
    """

    before: Float[Tensor, "batch length d_model"]
    delta: Float[Tensor, "batch length d_model"]

    @property
    def after(self) -> Float[Tensor, "batch length d_model"]:
        """E' = E + ΔE."""
        return self.before + self.delta


@contextlib.contextmanager
def record_residuals(model: Seq2Seq) -> Iterator[dict[tuple[str, int], Residual]]:
    """Within this context each pass of `model` leaves its residuals in the yielded dict, by (site, layer).

    The latest pass stays. The output is what it would be without.
    """
    residuals: dict[tuple[str, int], Residual] = {}
    with contextlib.ExitStack() as hooks:
        for place, norm, attention in _attention_blocks(model):
            watch = _Watch(place, residuals)
            hooks.enter_context(norm.register_forward_pre_hook(watch.reads))
            hooks.enter_context(attention.register_forward_hook(watch.adds))
        yield residuals


def _attention_blocks(model: Seq2Seq) -> Iterator[tuple[tuple[str, int], nn.Module, Attention]]:
    """Each (site, layer) with the norm that reads E there, and the attention behind it."""
    for number, layer in enumerate(model.encoder):
        encoder = cast("EncoderLayer", layer)
        yield ("encoder_self", number), encoder.self_norm, encoder.self_attention
    for number, layer in enumerate(model.decoder):
        decoder = cast("DecoderLayer", layer)
        yield ("decoder_self", number), decoder.self_norm, decoder.self_attention
        yield ("cross", number), decoder.cross_norm, decoder.cross_attention


class _Watch:
    """The two hooks of one site in one layer."""

    def __init__(self, place: tuple[str, int], residuals: dict[tuple[str, int], Residual]) -> None:
        self._place = place
        self._residuals = residuals
        self._before: Tensor | None = None

    def reads(self, norm: nn.Module, arguments: tuple[Any, ...]) -> None:
        self._before = arguments[0].detach()

    def adds(self, attention: nn.Module, arguments: tuple[Any, ...], delta: Tensor) -> None:
        # Without an E before it, this call is no part of a pass: somebody asks the module something.
        if self._before is not None:
            self._residuals[self._place] = Residual(self._before, delta.detach())
            self._before = None
