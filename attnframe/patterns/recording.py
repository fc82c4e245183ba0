"""Recording attention weights on any backend, without changing what the model computes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnframe.attention import AttendCall, Attention, Observer, PatternKind, observe
from attnframe.backends import attention_weights
from attnframe.backends.eager import repeat_heads

# Largest difference, relative to the largest output, between a kernel's output and the rebuilt weights times v.
_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}


class PatternError(RuntimeError):
    """What was rebuilt does not reproduce what the module computed, or a variant left its pattern open."""


@dataclass(frozen=True)
class Pattern:
    """The attention weights of one call of one module, and what kind of numbers they are."""

    weights: Float[Tensor, "batch heads query key"]
    kind: PatternKind


class Patterns(Mapping[tuple[str, int], Pattern]):
    """Recorded patterns by (site, layer): for each module its latest call."""

    def __init__(self) -> None:
        self._patterns: dict[tuple[str, int], Pattern] = {}

    def __getitem__(self, place: tuple[str, int]) -> Pattern:
        return self._patterns[place]

    def __iter__(self) -> Iterator[tuple[str, int]]:
        return iter(sorted(self._patterns))

    def __len__(self) -> int:
        return len(self._patterns)

    def layers(self, site: str) -> list[Float[Tensor, "batch heads query key"]]:
        """The weights of one site, a tensor for each layer from the first on."""
        return [self[place].weights for place in self if place[0] == site]

    def add(self, place: tuple[str, int], pattern: Pattern) -> None:
        """Keep `pattern` as the latest of its place."""
        self._patterns[place] = pattern


@contextlib.contextmanager
def record_patterns(model: nn.Module, *, sites: Collection[str] | None = None) -> Iterator[Patterns]:
    """Within this context every attention call in `model` leaves its weights in the yielded `Patterns`.

    A backend that forms no weights runs as ever; they are rebuilt from its q and k (in float32 or better) and, where
    no attention dropout acts, checked against its output. `sites` limits what is recorded. Weights are those before
    dropout, detached. Raises `PatternError` when they do not reproduce the output.
    """
    patterns = Patterns()
    with observe(model, _Recorder(patterns, sites)):
        yield patterns


class _Recorder(Observer):
    def __init__(self, patterns: Patterns, sites: Collection[str] | None) -> None:
        self._patterns = patterns
        self._sites = sites
        # By module: a variant may contain another attention module.
        self._calls: dict[Attention, list[AttendCall]] = {}
        self._reports: dict[Attention, tuple[Callable[..., Tensor], PatternKind]] = {}

    def called(self, module: Attention) -> None:
        # A forward that raised has left its calls behind.
        self._calls[module] = []
        self._reports.pop(module, None)

    def attended(self, module: Attention, call: AttendCall) -> None:
        if self._wants(module):
            self._calls.setdefault(module, []).append(call)

    def reported(self, module: Attention, combine: Callable[..., Tensor], kind: PatternKind) -> None:
        if self._wants(module):
            self._reports[module] = (combine, kind)

    @torch.no_grad()
    def returned(self, module: Attention) -> None:
        if not self._wants(module):
            return
        calls = self._calls.pop(module, [])
        report = self._reports.pop(module, None)
        maps = [_rebuild(call) for call in calls]
        if report is not None:
            combine, kind = report
            pattern = Pattern(combine(*maps).detach(), kind)
        elif len(maps) == 1:
            pattern = Pattern(maps[0], PatternKind.PROBABILITY)
        else:
            raise PatternError(
                f"{type(module).__name__} calls attend {len(maps)} times; with report_pattern it says what its "
                f"pattern is"
            )
        self._patterns.add((module.site, module.layer), pattern)

    def _wants(self, module: Attention) -> bool:
        return self._sites is None or module.site in self._sites


@torch.no_grad()
def _rebuild(call: AttendCall) -> Float[Tensor, "batch heads query key"]:
    wide = torch.promote_types(call.q.dtype, torch.float32)
    q, k, v, output = (x.detach().to(wide) for x in (call.q, call.k, call.v, call.output))
    with torch.autocast(q.device.type, enabled=False):
        weights = attention_weights(q, k, call.mask, scale=call.scale, score_mod=call.score_mod, mask_mod=call.mask_mod)
        if call.request.dropout == 0 and output.numel():
            rebuilt = weights @ repeat_heads(v, q.shape[1])
            limit = _TOLERANCE[call.q.dtype] * output.abs().nan_to_num().max().clamp(min=1.0).item()
            # A model that has diverged is NaN in both; one that is NaN in one of them is a miss.
            if not torch.isclose(rebuilt, output, rtol=0.0, atol=limit, equal_nan=True).all():
                error = (rebuilt - output).abs().max()
                raise PatternError(f"rebuilt weights miss the kernel's output by {error:.2g}")
    return weights
