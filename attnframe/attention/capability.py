"""Which backend can run which variant on which device, without running it there."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from attnframe import registry
from attnframe.attention.build import build_attention
from attnframe.attention.tracing import trace_attend
from attnframe.backends import Request, backends, reasons_against, resolve
from attnframe.backends.resolution import AUTO
from attnframe.errors import UserError


@dataclass(frozen=True)
class Capability:
    """Whether `backend` trains and evaluates `variant` on `device`, and if not why: `reasons`, a sentence each.

    `evaluates` says that all of them are about training. `auto` says that `backend=auto` takes it there. A variant that
    computes its attention itself uses no backend: every one of them runs, `own` is True, and none is taken.
    """

    variant: str
    backend: str
    device: str
    reasons: tuple[str, ...]
    evaluates: bool
    auto: bool
    own: bool = False

    @property
    def runs(self) -> bool:
        """No reason against it."""
        return not self.reasons


def devices_at_hand() -> list[str]:
    """Device types of this machine; the first is the one that a run takes unless told otherwise."""
    return ["cuda", "cpu"] if torch.cuda.is_available() else ["cpu"]


def capabilities(
    *,
    d_model: int,
    num_heads: int,
    dropout: float = 0.0,
    bias: bool = True,
    dtype: torch.dtype = torch.float32,
    devices: Sequence[str] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
    variants: Iterable[str] | None = None,
) -> list[Capability]:
    """Each of `variants` (default: every registered one), on each of `devices` (those at hand), with each backend.

    `options` holds the options of a variant by its name, where they differ from its defaults; `dropout` is that of
    the attention weights. A variant that cannot have these sizes runs nowhere, for the reason that it gives.
    """
    found = []
    for name in registry.variants() if variants is None else variants:
        traced: list[Request] | str
        try:
            traced = _requests(name, d_model, num_heads, dropout, bias, (options or {}).get(name, {}))
        except UserError as error:
            traced = str(error)
        for device in devices_at_hand() if devices is None else devices:
            found += _on_device(name, traced, device, dropout, dtype)
    return found


def plain_request(device: str) -> Request:
    """The least that training can ask: multi-head attention in fp32, with a common head_dim."""
    return Request(device=device, dtype=torch.float32, heads=4, key_heads=4, head_dim=64, value_dim=64, trains=True)


def _requests(
    name: str, d_model: int, num_heads: int, dropout: float, bias: bool, options: Mapping[str, Any]
) -> list[Request]:
    """What `name` asks of `attend`. Raises `UserError` when it cannot be built or run."""
    # The meta device needs no memory, but code that looks at numbers fails there.
    for device in ("meta", "cpu"):
        try:
            with torch.device(device):
                module = build_attention(
                    name, d_model=d_model, num_heads=num_heads, dropout=dropout, bias=bias, backend="eager", **options
                )
                calls = trace_attend(module, d_model=d_model, d_context=d_model)
        except UserError:
            raise
        except Exception as error:  # a variant's code is anybody's
            cause = f"{type(error).__name__}: {error}".partition("\n")[0]
        else:
            return [call.request for call in calls]
    raise UserError(f"{name} fails: {cause}")


def _on_device(
    name: str, traced: list[Request] | str, device: str, dropout: float, dtype: torch.dtype
) -> list[Capability]:
    if isinstance(traced, str):
        return [Capability(name, backend, device, (traced,), evaluates=False, auto=False) for backend in backends()]
    # What building asks, and what training asks besides.
    built = [
        dataclasses.replace(request, device=device, dtype=dtype, dropout=chance)
        for request in traced
        for chance in dict.fromkeys((0.0, dropout))
    ]
    requests = built + [dataclasses.replace(request, trains=True) for request in built]
    auto = resolve(AUTO, requests).backend.name if requests else None
    return [
        Capability(
            name,
            backend.name,
            device,
            reasons_against(backend, requests),
            evaluates=not reasons_against(backend, built),
            auto=backend.name == auto,
            own=not requests,
        )
        for backend in backends().values()
    ]
