"""What a module makes of its heads, found by asking it: the linear maps behind each head's ΔE, of any variant."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from attnframe.attention import AttendCall, Attention, Observer, undisturbed
from attnframe.backends.eager import repeat_heads

_log = logging.getLogger(__name__)

# Largest difference, relative to the largest number, between what a map gives and what the module returned.
_TOLERANCE = 1e-4

# Unit vectors in a forward: a wide module is asked in parts, so that asking takes little memory.
_MOST_AT_ONCE = 256


@dataclass(frozen=True)
class OutputMaps:
    """ΔE = Σ_c Σ_h z_ch·W_ch + b, where z_ch is what head h gets out of the c-th `attend` of a forward.

    `maps` holds W_c for each `attend`: of multi-head attention the one map is W_O, cut into the rows of each head.
    """

    maps: tuple[Float[Tensor, "heads value_dim d_model"], ...]
    bias: Float[Tensor, " d_model"]

    def parts(
        self, outputs: Sequence[Float[Tensor, "batch heads query value_dim"]]
    ) -> list[Float[Tensor, "batch heads query d_model"]]:
        """What each head adds through each `attend`, z_ch·W_ch, from the output of each."""
        return [torch.einsum("bhqv,hvd->bhqd", z.to(w.dtype), w) for z, w in zip(outputs, self.maps, strict=True)]

    def delta(
        self, outputs: Sequence[Float[Tensor, "batch heads query value_dim"]]
    ) -> Float[Tensor, "batch heads query d_model"]:
        """ΔE⁽ʰ⁾ of each head, without the bias: the sum of its parts."""
        return torch.stack(self.parts(outputs)).sum(0)


def output_maps(module: Attention, calls: Sequence[AttendCall], *, d_model: int, d_context: int) -> OutputMaps | None:
    """The maps of `module`, whose `attend` calls look like `calls`; None where there are none to be had.

    The module runs on one zero embedding with every unit vector in the place of what `attend` returns. Nothing is
    assumed of its parameters. Whether ΔE is linear in the heads is for the caller to check on real embeddings: what
    `delta` gives, summed over the heads, plus `bias` is then what the module returned. There are no maps where the
    number of heads differs between calls, and where the variant's own code cannot run on a single embedding.
    """
    shapes = [(call.output.shape[1], call.output.shape[3]) for call in calls]
    if not calls or len({heads for heads, _ in shapes}) > 1:
        return None
    sizes = [heads * width for heads, width in shapes]
    query, key, value = _embeddings(module, 1, d_model, d_context)
    # Row 0 is all zeros and gives the bias; each further one is a unit vector.
    units = torch.cat([query.new_zeros(1, sum(sizes)), torch.eye(sum(sizes), dtype=query.dtype, device=query.device)])
    found = []
    try:
        with _asked(module):
            for some in units.split(_MOST_AT_ONCE):
                parts = iter(
                    part.reshape(len(some), heads, 1, width)
                    for part, (heads, width) in zip(some.split(sizes, dim=1), shapes, strict=True)
                )
                with module.changed_by(lambda call, parts=parts: next(parts)):  # type: ignore[misc]
                    q, k, v = (x.expand(len(some), -1, -1) for x in (query, key, value))
                    found.append(module(q, k, v).squeeze(1))
    except Exception as error:  # a variant's code is anybody's, and nobody's run is to fail for being looked at
        _log.info("%s cannot be asked for its head maps: %r", type(module).__name__, error)
        return None
    answers = torch.cat(found)
    answers = answers.to(torch.promote_types(answers.dtype, torch.float32))
    rows = (answers[1:] - answers[0]).split(sizes)
    return OutputMaps(
        tuple(part.reshape(heads, width, d_model) for part, (heads, width) in zip(rows, shapes, strict=True)),
        answers[0],
    )


def value_maps(module: Attention, *, d_model: int, d_context: int) -> Float[Tensor, "heads d_context d_model"] | None:
    """The note's V of each head: the map from one embedding to the ΔE that it adds where it has all of the weight.

    It is W_V·W_O of multi-head attention and W_down·W_up of `low_rank_v`, biases left out; with row vectors,
    ΔE = E·V. None where the module calls `attend` not exactly once, is not linear there, or minds which query it is.
    """
    recorder = _Calls()
    query, _, _ = _embeddings(module, d_context + 2, d_model, d_context)
    units = torch.eye(d_context, dtype=query.dtype, device=query.device)
    # Nothing, each unit vector, and a mixture of all of them, each the only key of its row.
    mixture = torch.linspace(-0.5, 2.5, d_context).to(units)
    context = torch.cat([units.new_zeros(1, d_context), units, mixture[None]])[:, None]
    try:
        with _asked(module), module.observed_by(recorder):
            found, for_another_query = (module(q, context, context).squeeze(1) for q in (query, query + 1))
    except Exception as error:  # as in `output_maps`
        _log.info("%s cannot be asked for its value maps: %r", type(module).__name__, error)
        return None
    if len(recorder.calls) != 2:
        return None
    maps = output_maps(module, recorder.calls[:1], d_model=d_model, d_context=d_context)
    if maps is None:
        return None
    call = recorder.calls[0]
    added = maps.delta([repeat_heads(call.v, call.q.shape[1])])[:, :, 0]  # [1 + d_context + 1, heads, d_model]
    added = added[1:] - added[0]
    mixed = torch.einsum("c,chd->hd", mixture.to(added), added[:-1])
    differences = [mixed - added[-1]]
    # A lone key need not have all of the weight, nor the same for every query; what is made of it has to be linear.
    for asked, returned in zip(recorder.calls, (found, for_another_query), strict=True):
        differences.append(maps.delta([asked.output]).sum(1)[:, 0] + maps.bias - returned)
    limit = _TOLERANCE * added.abs().max().item()
    return None if any(x.abs().max() > limit for x in differences) else added[:-1].transpose(0, 1)


@contextlib.contextmanager
def _asked(module: Attention) -> Iterator[None]:
    """`module` runs in evaluation mode, in its own precision, without gradients, and nobody else notices."""
    device = next((parameter.device.type for parameter in module.parameters()), "cpu")
    with contextlib.ExitStack() as stack:
        stack.enter_context(undisturbed(module))
        for part in module.modules():
            if isinstance(part, Attention):
                stack.enter_context(part.set_apart())
        stack.enter_context(torch.no_grad())
        stack.enter_context(torch.autocast(device, enabled=False))
        yield


def _embeddings(module: Attention, batch: int, d_model: int, d_context: int) -> tuple[Tensor, Tensor, Tensor]:
    """Zero embeddings: one query and one key in each row of the batch."""
    like = next(module.parameters(), torch.empty(0))
    query = torch.zeros(batch, 1, d_model, dtype=like.dtype, device=like.device)
    context = query if d_context == d_model else query.new_zeros(batch, 1, d_context)
    return query, context, context


class _Calls(Observer):
    def __init__(self) -> None:
        self.calls: list[AttendCall] = []

    def attended(self, module: Attention, call: AttendCall) -> None:
        self.calls.append(call)
