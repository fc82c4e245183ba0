"""The parts of a model's attention (a site, a layer of it, a head of that layer), and the model without one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from attnframe.attention import AttendCall, Attention, Observer, observe, uniform_heads, zero_heads
from attnframe.model.seq2seq import Seq2Seq
from attnframe.model.sites import SITES

MODES = {"zero": zero_heads, "uniform": uniform_heads}
"""What becomes of a part: its heads say nothing, or keep their values and attend to everything alike."""


@dataclass(frozen=True)
class Part:
    """Heads of one site: all of them, those of one layer, or one. Layers and heads count from 0."""

    site: str
    layer: int | None = None
    head: int | None = None

    @property
    def what(self) -> str:
        """One of "site", "layer" and "head"."""
        return "site" if self.layer is None else "layer" if self.head is None else "head"


@dataclass(frozen=True)
class Place:
    """The module at a (site, layer): whether it calls `attend`, and its heads, 0 where they cannot be told apart."""

    module: Attention
    attends: bool
    heads: int


def find_places(
    model: Seq2Seq,
    src: Int[Tensor, "batch source"],
    src_keep: Bool[Tensor, "batch source"] | None,
    tgt_in: Int[Tensor, "batch target"],
) -> dict[tuple[str, int], Place]:
    """The attention of `model` by (site, layer). How many heads there are is seen by running it on this batch."""
    counter = _HeadCounter()
    with torch.no_grad(), observe(model, counter):
        model(src, src_keep, tgt_in)
    found = {}
    # A module inside another one has no site, and is part of what that one does.
    modules = [module for module in model.modules() if isinstance(module, Attention) and module.site]
    for module in sorted(modules, key=lambda module: (SITES.index(module.site), module.layer)):
        counts = counter.heads.get(module, set())
        found[module.site, module.layer] = Place(module, bool(counts), counts.pop() if len(counts) == 1 else 0)
    return found


class _HeadCounter(Observer):
    def __init__(self) -> None:
        self.heads: dict[Attention, set[int]] = {}

    def attended(self, module: Attention, call: AttendCall) -> None:
        self.heads.setdefault(module, set()).add(call.output.shape[1])


def parts_of(places: Mapping[tuple[str, int], Place], mode: str) -> list[Part]:
    """Every part that can be treated so. A module that never calls `attend` can be zeroed as a whole, and no more."""
    able = {place: found for place, found in places.items() if found.attends or mode == "zero"}
    sites = dict.fromkeys(site for site, _ in places)
    whole = [site for site in sites if all(place in able for place in places if place[0] == site)]
    return [
        *(Part(site) for site in whole),
        *(Part(*place) for place in able),
        *(Part(*place, head) for place, found in able.items() for head in range(found.heads)),
    ]


@contextlib.contextmanager
def without(places: Mapping[tuple[str, int], Place], part: Part, mode: str) -> Iterator[None]:
    """Within this context the model of `places` has the heads of `part` zeroed or made uniform.

    What a module adds beside its heads stays, its output bias above all; of one that never calls `attend` nothing
    stays. Weights that are recorded meanwhile are still those of the call.
    """
    change = MODES[mode](None if part.head is None else [part.head])
    with contextlib.ExitStack() as stack:
        for (site, layer), place in places.items():
            if site != part.site or part.layer not in (None, layer):
                continue
            if place.attends:
                stack.enter_context(place.module.changed_by(change))
            else:
                stack.callback(place.module.register_forward_hook(_silenced).remove)
        yield


def _silenced(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
    return torch.zeros_like(output)
