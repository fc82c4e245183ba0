"""What is timed: a module, or its `attend` calls alone, with inputs and gradients."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnframe.attention import AttendCall, Attention, Mask, Observer, build_attention, settle_backend
from attnframe.bench.lines import DTYPES, Line

OWN = "own"
"""In the place of a backend's name: a variant that computes its attention itself."""


@dataclass(frozen=True)
class Subject:
    """`run` gives the outputs of one call, under a mask that is made anew if it is told so."""

    module: Attention
    run: Callable[[bool], tuple[Tensor, ...]]
    leaves: tuple[Tensor, ...]

    def evaluate(self, *, new_mask: bool = False) -> tuple[Tensor, ...]:
        """A forward pass without gradients."""
        with torch.no_grad():
            return self.run(new_mask)

    def forward(self, *, new_mask: bool = False) -> tuple[tuple[Tensor, ...], list[Tensor]]:
        """A forward pass that keeps what `backward` needs, and a gradient for each of its outputs."""
        outputs = self.run(new_mask)
        return outputs, [torch.ones_like(output) for output in outputs]

    def backward(self, made: tuple[tuple[Tensor, ...], list[Tensor]]) -> tuple[Tensor | None, ...]:
        """The gradients of all inputs and weights, of what `forward` made."""
        outputs, gradients = made
        return torch.autograd.grad(outputs, self.leaves, gradients, allow_unused=True)


def build(line: Line, device: torch.device) -> tuple[Attention, str]:
    """The module of a line, in its dtype on `device`, and the name of the backend that runs it.

    `OWN` where it calls none. Raises `UserError` for sizes that it cannot have, and `BackendError` where the backend
    cannot evaluate it.
    """
    with torch.device(device):
        module = build_attention(
            line.variant,
            d_model=line.d_model,
            num_heads=line.num_heads,
            dropout=line.dropout,
            bias=line.bias,
            # In another dtype the one that is wanted may be able to run it, or not; that is asked below.
            backend="eager",
            **line.options,
        )
    module = module.to(DTYPES[line.dtype]).eval()
    module.backend = line.backend
    resolution = settle_backend(module, d_model=line.d_model, d_context=line.d_model)
    return module, OWN if resolution is None else resolution.backend.name


def module_subject(module: Attention, line: Line, length: int, device: torch.device) -> Subject:
    """The module in self-attention over random embeddings. The layers of a model share a mask, so it is made once."""
    batch = line.batch_of(length)
    x = torch.randn(batch, length, line.d_model, device=device, dtype=DTYPES[line.dtype]).requires_grad_()
    mask = _mask(line, batch, length, device)

    def run(new_mask: bool) -> tuple[Tensor, ...]:
        return (module(x, x, x, dataclasses.replace(mask) if new_mask else mask),)

    return Subject(module, run, (x, *(p for p in module.parameters() if p.requires_grad)))


def attend_subject(module: Attention, calls: Sequence[AttendCall]) -> Subject:
    """The same `attend` calls again, each with its own q, k and v."""

    def run(new_mask: bool) -> tuple[Tensor, ...]:
        dropout = module.attention_dropout if module.training else 0.0
        return tuple(_attend(module, call, dropout, new_mask) for call in calls)

    return Subject(module, run, tuple(x for call in calls for x in (call.q, call.k, call.v)))


def attend_calls(module: Attention, line: Line, length: int, device: torch.device) -> list[AttendCall]:
    """What one forward pass of the module, in evaluation, asks of `attend`; none for one that never does."""
    log = _Calls()
    with module.observed_by(log):
        module_subject(module.eval(), line, length, device).evaluate()
    return log.calls


class _Calls(Observer):
    def __init__(self) -> None:
        self.calls: list[AttendCall] = []

    def attended(self, module: Attention, call: AttendCall) -> None:
        # In the layout that the module gave them, which a backend may be faster or slower in.
        q, k, v = (x.detach().requires_grad_() for x in (call.q, call.k, call.v))
        self.calls.append(dataclasses.replace(call, q=q, k=k, v=v, output=q.new_empty(0)))


def _attend(module: Attention, call: AttendCall, dropout: float, new_mask: bool) -> Tensor:
    request = dataclasses.replace(call.request, dropout=dropout, trains=torch.is_grad_enabled())
    return module.resolution(request).backend.attend(
        call.q,
        call.k,
        call.v,
        dataclasses.replace(call.mask) if new_mask else call.mask,
        scale=call.scale,
        dropout=dropout,
        score_mod=call.score_mod,
        mask_mod=call.mask_mod,
        normaliser=call.normaliser,
    )


def _mask(line: Line, batch: int, length: int, device: torch.device) -> Mask:
    return Mask(causal=line.causal).bind(batch, length, length, device)
