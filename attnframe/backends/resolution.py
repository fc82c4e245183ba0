"""Which backend runs a module: the one asked for, or with `auto` the first that can."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch

from attnframe.backends.base import Backend, Request
from attnframe.backends.eager import Eager
from attnframe.backends.flex import Flex
from attnframe.backends.sdpa import Sdpa
from attnframe.backends.triton.backend import Triton
from attnframe.errors import UserError, did_you_mean

AUTO = "auto"

_DTYPES = {"bf16": torch.bfloat16, "16": torch.float16, "64": torch.float64}

# `auto` tries them in this order, but for those that are taken only by name: fused ones first, and last the one that
# runs everything.
_BACKENDS: dict[str, Backend] = {backend.name: backend for backend in (Sdpa(), Triton(), Flex(), Eager())}


class BackendError(UserError):
    """A backend that was asked for by name cannot run what the variant needs."""


@dataclass(frozen=True)
class Resolution:
    """The backend that runs, and for each one that `auto` passed over the reasons."""

    backend: Backend
    passed_over: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def backends() -> dict[str, Backend]:
    """Every backend by name, in the order in which `auto` tries them."""
    return dict(_BACKENDS)


def resolve(choice: str, requests: Iterable[Request]) -> Resolution:
    """The backend for all of `requests`: `choice`, or for "auto" the first without a reason against it, none of those
    that are taken only by name.

    Raises `BackendError` for an explicit choice that cannot run (every reason, and the nearest backend that can),
    `UserError` for an unknown name.
    """
    requests = list(requests)
    reasons = {name: reasons_against(backend, requests) for name, backend in _BACKENDS.items()}
    against_auto = {name: _against_auto(_BACKENDS[name], against) for name, against in reasons.items()}
    able = next(name for name, against in against_auto.items() if not against)
    if choice == AUTO:
        passed_over = dict(list(against_auto.items())[: list(against_auto).index(able)])
        return Resolution(_BACKENDS[able], passed_over)
    if choice not in _BACKENDS:
        raise UserError(f"there is no backend {choice!r}: {did_you_mean(choice, [AUTO, *_BACKENDS])}")
    if reasons[choice]:
        raise BackendError(f"backend={choice} cannot run this: {'; '.join(reasons[choice])}; backend={able} can")
    return Resolution(_BACKENDS[choice])


def reasons_against(backend: Backend, requests: Iterable[Request]) -> tuple[str, ...]:
    """Why `backend` cannot run `requests`, each reason once; empty when it can."""
    return tuple(dict.fromkeys(reason for request in requests for reason in backend.unsupported(request)))


def _against_auto(backend: Backend, reasons: tuple[str, ...]) -> tuple[str, ...]:
    return (*reasons, backend.only_by_name) if backend.only_by_name else reasons


def dtype_of(precision: str | int) -> torch.dtype:
    """What q, k and v are in at a `trainer.precision` such as "bf16-mixed"; float32 unless it says otherwise."""
    return next((dtype for key, dtype in _DTYPES.items() if str(precision).startswith(key)), torch.float32)
