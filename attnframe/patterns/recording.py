"""Recording attention weights on any backend, without changing what the model computes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Sequence
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
from attnframe.patterns.pattern import Pattern, Patterns

DEFAULT_MAX_BYTES = 2**30
"""What a recording may hold where nobody says otherwise: 1 GiB."""

# Largest difference between what was computed and what is rebuilt, relative to the numbers that it was computed from.
_TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-4, torch.float16: 5e-3, torch.bfloat16: 3e-2}

# Largest difference between what a row sums to and what it is said to sum to.
_MASS_TOLERANCE = 1e-4


class PatternError(RuntimeError):
    """What was rebuilt does not reproduce what the module computed, or a variant's pattern is not what it says."""


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

    A module that reports no pattern, and that calls `attend` not exactly once or with other queries or keys than it is
    given, has none: it is left out, and `Patterns.missing` says why.

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
        self._given: dict[Attention, tuple[torch.Size, torch.Size]] = {}
        self._calls: dict[Attention, list[AttendCall]] = {}
        self._reports: dict[Attention, _Report] = {}

    def called(self, module: Attention, query: Tensor, key: Tensor, value: Tensor) -> None:
        # A forward that raised has left its calls behind.
        self._calls[module] = []
        self._reports.pop(module, None)
        self._given[module] = query.shape, key.shape

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
        if report is None and (habit := self._habit_without_pattern(module, calls)):
            reason = f"{habit} and reports no pattern: call self.report_pattern(...) in its forward"
            self._patterns.leave_out((module.site, module.layer), f"{type(module).__name__} {reason}")
            return
        maps = [_rebuild(call) for call in calls]
        if report is None and calls[0].normaliser is not None:
            # Unlike a softmax, its rows sum to 1 only if it means them to.
            report = _Report(lambda weights: weights, PatternKind.PROBABILITY, 1.0)
        if report is None:
            weights, kind = maps[0], PatternKind.PROBABILITY
        else:
            weights, kind = report.combine(*maps).detach(), report.kind
            _check_report(module, weights, report, self._given[module][0])
        norms = self._norms(module, calls, maps, output) if self._contributions else None
        if norms is None or norms.by_head.shape != weights.shape:
            # A variant may report a pattern that has other heads than what it attends with.
            pattern = Pattern(weights, kind)
        else:
            pattern = Pattern(weights, kind, norms.by_head, norms.together)
        self._patterns.add((module.site, module.layer), pattern)

    def _wants(self, module: Attention) -> bool:
        return self._sites is None or module.site in self._sites

    def _habit_without_pattern(self, module: Attention, calls: Sequence[AttendCall]) -> str:
        """What keeps the weights of `attend` from being the module's pattern, as a predicate; empty where they are."""
        if len(calls) != 1:
            return f"calls attend {len(calls)} times"
        (call,) = calls
        query, key = self._given[module]
        # In cached decoding a module is given new keys only, and attends to all.
        lengths = query[1], call.mask.key_offset + key[1]
        if (call.q.shape[2], call.k.shape[2]) != lengths:
            return "calls attend with other queries or keys than it is given"
        return ""

    def _norms(
        self, module: Attention, calls: Sequence[AttendCall], weights: Sequence[Tensor], output: Tensor
    ) -> Contributions | None:
        query, key = self._given[module]
        maps = output_maps(module, calls, d_model=query[-1], d_context=key[-1])
        if maps is None:
            return None
        parts = torch.stack(maps.parts([call.output for call in calls]))  # [calls, batch, heads, query, d_model]
        # Relative to the parts that are added, which may cancel; the bias is added in the type of the output.
        limit = _TOLERANCE[output.dtype] * _largest(parts.abs().sum((0, 2))) + 4 * _epsilon(output) * _largest(
            maps.bias
        )
        if not _agree(parts.sum((0, 2)) + maps.bias, output, limit):
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
        batch, heads, queries, keys = shape
        num_calls = len(self._calls[module])
        needed = element * num_calls * batch * heads * queries * keys
        if self._contributions:
            # The norms of each head and of all of them, and on the way there the vector that each head makes of a key.
            needed += element * batch * keys * ((heads + 1) * queries + num_calls * heads * self._given[module][0][-1])
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
        weights = attention_weights(
            q,
            k,
            call.mask,
            scale=call.scale,
            score_mod=call.score_mod,
            mask_mod=call.mask_mod,
            normaliser=call.normaliser,
        )
        if call.request.dropout == 0:
            # A kernel may round its scores to the type of q, and e^x turns that into a relative error of the weights.
            largest_score = _largest(q.norm(dim=-1)) * _largest(k.norm(dim=-1)) * abs(call.scale)
            limit = (_TOLERANCE[call.q.dtype] + 2 * _epsilon(call.q) * largest_score) * _largest(v)
            rebuilt = weights @ repeat_heads(v, q.shape[1])
            if not _agree(rebuilt, output, limit):
                error = (rebuilt - output).abs().max()
                raise PatternError(f"rebuilt weights miss the kernel's output by {error:.2g}")
    return weights


def _agree(rebuilt: Tensor, computed: Tensor, limit: float) -> bool:
    """Whether the two differ by no more than `limit`."""
    # A model that has diverged is NaN in both; one that is NaN in one of them is a miss.
    return bool(torch.isclose(rebuilt, computed.to(rebuilt.dtype), rtol=0.0, atol=limit, equal_nan=True).all())


def _largest(x: Tensor) -> float:
    """The largest |x| that is a number, 0 of nothing."""
    return x.abs().nan_to_num(0.0, 0.0, 0.0).max().item() if x.numel() else 0.0


def _epsilon(x: Tensor) -> float:
    return torch.finfo(x.dtype).eps


def _check_report(module: Attention, weights: Tensor, report: _Report, query: torch.Size) -> None:
    """Raises `PatternError` for a shape that does not go with `query`, that of the embeddings, for rows that do not sum
    to what the variant says, and for negative probabilities."""
    batch, queries, _ = query
    if weights.dim() != 4 or (weights.shape[0], weights.shape[2]) != (batch, queries):
        raise PatternError(
            f"{type(module).__name__} reports a pattern of shape {list(weights.shape)}, not [{batch}, heads, "
            f"{queries}, keys]"
        )
    if report.mass is None:
        return
    sums = weights.sum(-1)
    mass = torch.as_tensor(report.mass, dtype=sums.dtype, device=sums.device)
    # NaN is what a model that has diverged shows; a row without any weight may attend to nothing.
    wrong = ~(torch.isclose(sums, mass.expand_as(sums), rtol=0.0, atol=_MASS_TOLERANCE) | (weights == 0).all(-1))
    if (wrong & sums.isfinite()).any():
        worst = sums[wrong & sums.isfinite()][0]
        raise PatternError(
            f"{type(module).__name__} reports a pattern with a row that sums to {worst:.4g}: give report_pattern the "
            f"kind, or the mass, that its rows have"
        )
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
