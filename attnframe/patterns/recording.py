"""Recording attention weights on any backend, without changing what the model computes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attnframe.attention import AttendCall, Attention, Observer, PatternKind, observe
from attnframe.backends import attention_weights
from attnframe.backends.eager import repeat_heads
from attnframe.errors import UserError
from attnframe.patterns.contributions import Contributions, values_of
from attnframe.patterns.contributions import contributions as contributions_of
from attnframe.patterns.head_maps import output_maps

DEFAULT_MAX_BYTES = 2**30
"""What a recording may hold where nobody says otherwise: 1 GiB."""

# Largest difference, relative to the largest output, between a kernel's output and the rebuilt weights times v.
_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}

# Largest difference between what a row sums to and what it is said to sum to.
_MASS_TOLERANCE = 1e-4


class PatternError(RuntimeError):
    """What was rebuilt does not reproduce what the module computed, or a variant's pattern is not what it says."""


@dataclass(frozen=True)
class Pattern:
    """The attention weights of one call of one module, and what kind of numbers they are.

    `contributions` are the norms ‖P_ij·V_j·W_O‖ of what each key adds to ΔE (`patterns.contributions`), and
    `joint_contributions` those of what it adds through all heads together: None where they were not asked for, and
    where what the module makes of its heads is not linear in them, so that no part of it is one key's; nor are there
    any while an intervention changes what `attend` returns.
    """

    weights: Float[Tensor, "batch heads query key"]
    kind: PatternKind
    contributions: Float[Tensor, "batch heads query key"] | None = None
    joint_contributions: Float[Tensor, "batch query key"] | None = None


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
def record_patterns(
    model: nn.Module,
    *,
    sites: Collection[str] | None = None,
    contributions: bool = False,
    max_bytes: int | None = DEFAULT_MAX_BYTES,
) -> Iterator[Patterns]:
    """Within this context every attention call in `model` leaves its weights in the yielded `Patterns`.

    A backend that forms no weights runs as ever; they are rebuilt from its q and k (in float32 or better) and, where
    no attention dropout acts, checked against its output. `sites` limits what is recorded, `contributions` adds the
    norm of what each key adds to ΔE. Weights are those before dropout, detached.

    Raises `PatternError` when weights do not reproduce the output or rows do not sum to what they should (1, or what
    the variant reports), and `UserError` before more than `max_bytes` would be held (None: no limit).
    """
    patterns = Patterns()
    with observe(model, _Recorder(patterns, sites, contributions, max_bytes)):
        yield patterns


@dataclass(frozen=True)
class _Report:
    combine: Callable[..., Tensor]
    kind: PatternKind
    mass: float | Tensor | None


class _Recorder(Observer):
    def __init__(
        self, patterns: Patterns, sites: Collection[str] | None, contributions: bool, max_bytes: int | None
    ) -> None:
        self._patterns = patterns
        self._sites = sites
        self._contributions = contributions
        self._max_bytes = max_bytes
        # By module: a variant may contain another attention module.
        self._widths: dict[Attention, tuple[int, int]] = {}
        self._calls: dict[Attention, list[AttendCall]] = {}
        self._reports: dict[Attention, _Report] = {}

    def called(self, module: Attention, query: Tensor, key: Tensor, value: Tensor) -> None:
        # A forward that raised has left its calls behind.
        self._calls[module] = []
        self._reports.pop(module, None)
        self._widths[module] = query.shape[-1], key.shape[-1]

    def attended(self, module: Attention, call: AttendCall) -> None:
        if self._wants(module):
            self._calls.setdefault(module, []).append(call)
            self._check_budget(module)

    def reported(
        self, module: Attention, combine: Callable[..., Tensor], kind: PatternKind, mass: float | Tensor | None
    ) -> None:
        if self._wants(module):
            self._reports[module] = _Report(combine, kind, 1.0 if kind is PatternKind.PROBABILITY else mass)

    @torch.no_grad()
    def returned(self, module: Attention, output: Tensor) -> None:
        if not self._wants(module):
            return
        calls = self._calls.pop(module, [])
        report = self._reports.pop(module, None)
        maps = [_rebuild(call) for call in calls]
        if report is not None:
            weights, kind = report.combine(*maps).detach(), report.kind
            _check_mass(module, weights, report)
        elif len(maps) == 1:
            weights, kind = maps[0], PatternKind.PROBABILITY
        else:
            raise PatternError(
                f"{type(module).__name__} calls attend {len(maps)} times; with report_pattern it says what its "
                f"pattern is"
            )
        norms = self._norms(module, calls, maps, output) if self._contributions else None
        if norms is None or norms.by_head.shape != weights.shape:
            # A variant may report a pattern that has other heads than what it attends with.
            pattern = Pattern(weights, kind)
        else:
            pattern = Pattern(weights, kind, norms.by_head, norms.together)
        self._patterns.add((module.site, module.layer), pattern)

    def _wants(self, module: Attention) -> bool:
        return self._sites is None or module.site in self._sites

    def _norms(
        self, module: Attention, calls: Sequence[AttendCall], weights: Sequence[Tensor], output: Tensor
    ) -> Contributions | None:
        d_model, d_context = self._widths[module]
        maps = output_maps(module, calls, d_model=d_model, d_context=d_context)
        if maps is None:
            return None
        rebuilt = maps.delta([call.output for call in calls]).sum(1) + maps.bias
        if not _agree(rebuilt, output):
            return None
        return contributions_of(weights, [values_of(call) for call in calls], maps)

    def _check_budget(self, module: Attention) -> None:
        """Refuse what would hold too much, before any of its weights is formed."""
        if self._max_bytes is None:
            return
        here = (module.site, module.layer)
        held = sum(_bytes(self._patterns[place]) for place in self._patterns if place != here)
        call = self._calls[module][-1]
        shape = [*call.q.shape[:3], call.k.shape[2]]
        element = torch.promote_types(call.q.dtype, torch.float32).itemsize
        maps = call.q.shape[1] * (len(self._calls[module]) + self._contributions) + self._contributions
        needed = element * maps * call.q.shape[0] * call.q.shape[2] * call.k.shape[2]
        if held + needed > self._max_bytes:
            raise UserError(
                f"recording {module.site or type(module).__name__}, layer {module.layer + 1} needs {_size(needed)} for "
                f"weights {shape} [batch, heads, query, key] beside {_size(held)} already held, and "
                f"max_bytes={self._max_bytes} allows {_size(self._max_bytes)}: record fewer or shorter sentences, "
                f"fewer sites, or raise max_bytes"
            )


@torch.no_grad()
def _rebuild(call: AttendCall) -> Float[Tensor, "batch heads query key"]:
    wide = torch.promote_types(call.q.dtype, torch.float32)
    q, k, v, output = (x.detach().to(wide) for x in (call.q, call.k, call.v, call.output))
    with torch.autocast(q.device.type, enabled=False):
        weights = attention_weights(q, k, call.mask, scale=call.scale, score_mod=call.score_mod, mask_mod=call.mask_mod)
        if call.request.dropout == 0 and output.numel():
            rebuilt = weights @ repeat_heads(v, q.shape[1])
            if not _agree(rebuilt, call.output):
                error = (rebuilt - output).abs().max()
                raise PatternError(f"rebuilt weights miss the kernel's output by {error:.2g}")
    return weights


def _agree(rebuilt: Tensor, output: Tensor) -> bool:
    """Whether `rebuilt` is `output`, as far as the type of the latter can tell."""
    if not output.numel():
        return True
    limit = _TOLERANCE[output.dtype] * output.abs().nan_to_num().max().clamp(min=1.0).item()
    # A model that has diverged is NaN in both; one that is NaN in one of them is a miss.
    return bool(torch.isclose(rebuilt, output.to(rebuilt.dtype), rtol=0.0, atol=limit, equal_nan=True).all())


def _check_mass(module: Attention, weights: Tensor, report: _Report) -> None:
    """Raises `PatternError` where rows do not sum to what the variant says, or probabilities are negative."""
    if report.mass is None:
        return
    sums = weights.sum(-1)
    mass = torch.as_tensor(report.mass, dtype=sums.dtype, device=sums.device)
    # NaN is what a model that has diverged shows; a row without any weight may attend to nothing.
    wrong = ~(torch.isclose(sums, mass.expand_as(sums), rtol=0.0, atol=_MASS_TOLERANCE) | (weights == 0).all(-1))
    if (wrong & sums.isfinite()).any():
        worst = sums[wrong & sums.isfinite()][0]
        raise PatternError(f"{type(module).__name__} reports a pattern with a row that sums to {worst:.4g}")
    if report.kind is PatternKind.PROBABILITY and (weights < -_MASS_TOLERANCE).any():
        raise PatternError(f"{type(module).__name__} reports a probability of {weights.min():.4g}")


def _bytes(pattern: Pattern) -> int:
    tensors = (pattern.weights, pattern.contributions, pattern.joint_contributions)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors if tensor is not None)


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"
