"""Building a variant by its name."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch

from attnframe import discovery, registry
from attnframe.attention.base import Attention
from attnframe.attention.functional import divide_into_heads
from attnframe.attention.scoring import Scoring
from attnframe.attention.tracing import trace_attend
from attnframe.backends import Resolution, resolve
from attnframe.backends.resolution import AUTO
from attnframe.errors import UserError
from attnframe.options import SHARED, override_value


def build_attention(
    name: str,
    *,
    d_model: int,
    num_heads: int,
    dropout: float = 0.0,
    backend: str = AUTO,
    d_context: int | None = None,
    bias: bool = True,
    **options: Any,
) -> Attention:
    """The variant `name`, given those of the arguments that its constructor names, and `options`: its own, and `rope`,
    `rope_base`, `qk_norm` and `softcap`, which every variant has (`scoring.Scoring`).

    `d_context` is the width of the keys' and values' embeddings where it differs from `d_model`; `dropout` acts on
    the attention weights. Raises `UserError` for an unknown name or option, a width that the variant cannot take, or
    a backend that cannot run it; one that can evaluate and not train raises when gradients are first wanted.
    """
    variant = discovery.find_variant(name)
    variant.check(options)
    if "num_heads" in variant.takes:
        divide_into_heads(d_model, num_heads)
    if d_context is not None and d_context != d_model and "d_context" not in variant.takes:
        able = [other.name for other in registry.variants().values() if "d_context" in other.takes]
        raise UserError(
            f"{name} takes keys and values of width d_model={d_model} only, but here they have "
            f"d_context={d_context}; variants that take d_context: {', '.join(able)}"
        )
    given = {
        "d_model": d_model,
        "num_heads": num_heads,
        "dropout": dropout,
        "d_context": d_context,
        "bias": bias,
    }
    arguments = variant.arguments(options)
    shared = {option.name: arguments.pop(option.name, option.default) for option in SHARED}
    module = variant.cls(**{key: given[key] for key in variant.takes}, **arguments)
    if not isinstance(module, Attention):
        raise UserError(f"{name}: {variant.cls.__qualname__} in {variant.file} is no subclass of attnframe.Attention")
    module.attention_dropout = dropout
    module.backend = backend
    module.scoring = _scoring(module, shared, d_model=d_model, d_context=d_context or d_model)
    settle_backend(module, d_model=d_model, d_context=d_context or d_model)
    return module


def _scoring(module: Attention, shared: dict[str, Any], *, d_model: int, d_context: int) -> Scoring | None:
    """What the options in `shared` ask for, None for nothing. Raises `UserError` where `module` cannot have it."""
    # By identity, for a softcap of 0.0 equals False, and is refused. A base alone turns nothing.
    asked = [o.name for o in SHARED if o.name != "rope_base" and shared[o.name] is not o.default]
    if not asked:
        return None
    head_dims = {call.request.head_dim for call in trace_attend(module, d_model=d_model, d_context=d_context)}
    if len(head_dims) != 1:
        habit = f"calls attend with q of {len(head_dims)} widths" if head_dims else "computes its attention itself"
        raise UserError(
            f"{asked[0]}={override_value(shared[asked[0]])} acts in attend, and {type(module).__name__} {habit}"
        )
    return Scoring(head_dims.pop(), **shared)


def settle_backend(
    module: Attention,
    *,
    d_model: int,
    d_context: int,
    device: str | None = None,
    dtype: torch.dtype | None = None,
    trains: bool = False,
) -> Resolution | None:
    """Decide once which backend runs `module`, by what it asks of `attend`; None when it never calls it.

    `device` and `dtype` are those it will run with, where they are not yet its own; `trains` says that gradients will
    be wanted too. Raises `BackendError`.
    """
    requests = []
    for call in trace_attend(module, d_model=d_model, d_context=d_context):
        request = dataclasses.replace(
            call.request, device=device or call.request.device, dtype=dtype or call.request.dtype
        )
        requests += [request, dataclasses.replace(request, dropout=module.attention_dropout)]
    if not requests:
        return None
    if trains:
        requests += [dataclasses.replace(request, trains=True) for request in requests]
    resolution = resolve(module.backend, requests)
    module.settle(resolution, requests)
    return resolution
