"""The variant under test, with one set of options on one backend: it builds modules and draws their inputs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from attnframe.attention import AttendCall, Attention, Mask, Observer, build_attention, settle_backend
from attnframe.errors import UserError
from attnframe.registry import Variant
from attnframe.testing.verdicts import NotApplicable

BATCH, QUERIES, KEYS = 3, 5, 7
D_CONTEXT = 13

# (d_model, num_heads), the first that the variant can have. None is a size above, so that a swapped axis is another
# size; the first head_dim is odd, which rotations cannot split, and the first number of heads has no groups.
SIZES = ((22, 2), (28, 2), (24, 4), (32, 4), (48, 6), (64, 8), (64, 4), (64, 2))

# How far weights are moved from where they are initialised: what is zero or alike cannot be seen to be left out.
_SPREAD = 0.2


@dataclass(frozen=True)
class Subject:
    """What a check is given."""

    variant: Variant
    backend: str = "eager"
    options: Mapping[str, Any] = field(default_factory=dict)
    d_model: int = SIZES[0][0]
    num_heads: int = SIZES[0][1]

    @property
    def words(self) -> str:
        """The backend and the options that differ from the defaults."""
        return ", ".join([f"backend={self.backend}", *(f"{name}={value}" for name, value in self.options.items())])

    def build(self, *, dtype: torch.dtype = torch.float64, seed: int = 0, **arguments: Any) -> Attention:
        """A module in evaluation mode, with the same random weights for the same seed.

        Raises `BackendError` where its backend cannot run it in `dtype`, with gradients.
        """
        given: dict[str, Any] = {
            "d_model": self.d_model,
            "num_heads": self.num_heads,
            "backend": self.backend,
            **self.options,
            **arguments,
        }
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            module = build_attention(self.variant.name, **given)
            if module.backend != "eager":
                width = given["d_model"]
                settle_backend(
                    module, d_model=width, d_context=given.get("d_context") or width, dtype=dtype, trains=True
                )
            with torch.no_grad():
                for parameter in module.parameters():
                    parameter.add_(_SPREAD * torch.randn_like(parameter))
        return module.to(dtype).eval()

    def embeddings(
        self,
        length: int,
        *,
        batch: int = BATCH,
        seed: int = 1,
        width: int | None = None,
        dtype: torch.dtype | None = None,
    ) -> Tensor:
        """Normal numbers [batch, length, d_model], the same for the same seed."""
        generator = torch.Generator().manual_seed(1000 * seed + length)
        x = torch.randn(batch, length, width or self.d_model, generator=generator, dtype=torch.float64)
        return x.to(dtype or torch.float64)

    def attend_calls(self, module: Attention, query: Tensor, key: Tensor, value: Tensor) -> list[AttendCall]:
        """The calls of `attend` in one forward without a mask."""
        log = _Calls()
        with torch.no_grad(), module.observed_by(log):
            module(query, key, value)
        return log.calls

    @property
    def calls_attend(self) -> bool:
        """Whether the variant leaves softmax(QKᵀ)V to a backend."""
        x = self.embeddings(2, batch=1)
        return bool(self.attend_calls(self.build(), x, x, x))

    def with_backend(self, backend: str) -> Subject:
        """The same on another backend."""
        return dataclasses.replace(self, backend=backend)


class _Calls(Observer):
    def __init__(self) -> None:
        self.calls: list[AttendCall] = []

    def attended(self, module: Attention, call: AttendCall) -> None:
        self.calls.append(call)


def kept(*lengths: int, keys: int) -> Tensor:
    """Bool[batch, keys], True for the first so many keys of each row."""
    return torch.arange(keys) < torch.tensor(lengths)[:, None]


def masks(queries: int = QUERIES, keys: int = KEYS) -> dict[str, Mask]:
    """The masks that there are, by what one would call them, for a batch of `BATCH`; its last row may see nothing."""
    keep = kept(4, keys, 0, keys=keys)
    return {
        "no mask": Mask(),
        "causal": Mask(causal=True),
        "padding": Mask(key_keep=keep),
        "causal and padding": Mask(key_keep=keep, causal=True),
        "causal from position 2": Mask(causal=True, query_offset=2),
        "causal from position 2 and padding": Mask(key_keep=keep, causal=True, query_offset=2),
        "a window of 1": Mask(window=1),
        "causal, a window of 1 and padding": Mask(key_keep=keep, causal=True, window=1),
    }


def accepted(
    module: Attention, query: Tensor, key: Tensor, value: Tensor, candidates: Mapping[str, Mask]
) -> Iterator[tuple[str, Mask, Tensor]]:
    """(name, mask, output) of each mask that the variant takes: with a `UserError` it may refuse what it cannot do.

    Raises `NotApplicable`, with its sentence, when it takes none.
    """
    taken, refusal = 0, ""
    for name, mask in candidates.items():
        try:
            output = module(query, key, value, mask)
        except UserError as error:
            # What it returned and what it gave to `attend` is no answer to a mask.
            if name == "no mask" or "forward returned" in str(error) or "calls attend with" in str(error):
                raise
            refusal = refusal or f"it refuses {name}: {error}"
            continue
        taken += 1
        yield name, mask, output
    if not taken:
        raise NotApplicable(refusal)
