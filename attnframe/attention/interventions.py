"""Changing what heads say, to see what they are good for."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn

from attnframe.attention.base import Attention
from attnframe.attention.observing import AttendCall, Intervention
from attnframe.backends import masked_softmax
from attnframe.backends.base import allowed, index_grid
from attnframe.backends.eager import repeat_heads


@contextlib.contextmanager
def intervene(model: nn.Module, interventions: Mapping[tuple[str, int], Intervention]) -> Iterator[None]:
    """Within this context every `attend` at each (site, layer) of `interventions` returns what that makes of it.

    Weights that are recorded meanwhile are still those of the call itself. Raises ValueError for a place that `model`
    does not have.
    """
    modules = {(module.site, module.layer): module for module in model.modules() if isinstance(module, Attention)}
    if missing := sorted(set(interventions) - set(modules)):
        raise ValueError(f"the model has no attention at {missing}; it has some at {sorted(modules)}")
    with contextlib.ExitStack() as stack:
        for place, intervention in interventions.items():
            stack.enter_context(modules[place].changed_by(intervention))
        yield


def zero_heads(heads: Collection[int] | None = None) -> Intervention:
    """`heads` (from 0; None: all) say nothing: their part of ΔE is zero (Michel et al. 2019, section 3.1,
    https://arxiv.org/abs/1905.10650, mask heads likewise)."""

    def zeroed(call: AttendCall) -> Tensor:
        return torch.where(_chosen(call, heads), 0.0, call.output)

    return zeroed


def uniform_heads(heads: Collection[int] | None = None) -> Intervention:
    """`heads` (from 0; None: all) attend alike to every key that they may attend to: V stays, Q and K play no part.

    A query that may attend to nothing keeps its zeros.
    """

    def uniform(call: AttendCall) -> Tensor:
        shape = (*call.q.shape[:3], call.k.shape[2])
        scores = call.v.new_zeros(shape)
        if call.score_mod is not None:
            # One that forbids keys by a score of -inf still does.
            modified = call.score_mod(scores, *index_grid(scores.shape, call.mask.query_offset, scores.device))
            scores = scores.masked_fill(modified == -torch.inf, -torch.inf)
        weights = masked_softmax(scores, allowed(call.mask, call.mask_mod, scores.shape, scores.device))
        return torch.where(_chosen(call, heads), weights @ repeat_heads(call.v, shape[1]), call.output)

    return uniform


def _chosen(call: AttendCall, heads: Collection[int] | None) -> Tensor:
    """Bool[heads, 1, 1]. Raises ValueError for a head that there is not."""
    count = call.output.shape[1]
    if heads is None:
        heads = range(count)
    if not set(heads) <= set(range(count)):
        raise ValueError(f"heads {sorted(heads)} are not all among 0 to {count - 1}")
    chosen = torch.zeros(count, 1, 1, dtype=torch.bool)
    chosen[list(heads)] = True
    return chosen.to(call.output.device)
