"""Statistics of heads on sequences whose patterns are too large to hold: from reductions, in memory linear in length.

The numbers are those of `patterns.statistics` on the recorded pattern; what needs the weights themselves is not among
them: contributions, pictures, `head_similarity`, alignment.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attnframe.attention import AttendCall, Attention, Mask, Observer, PatternKind, observe
from attnframe.backends import MaskMod, ScoreMod
from attnframe.backends.reductions import RowReductions, key_reductions, row_reductions
from attnframe.patterns.statistics import CAUSAL_SITES, HeadStatistics, Keep


@dataclass(frozen=True)
class ReducedPattern:
    """What is left of one call's pattern, which was never in memory."""

    heads: list[HeadStatistics]
    received_mass: Float[Tensor, "batch heads key"]
    """As `statistics.received_mass`."""
    rows: RowReductions
    """Each row by itself. The positions in it are those of kept keys, and distances from the diagonal."""


@dataclass(frozen=True)
class ReducedPatterns:
    """Reduced patterns by (site, layer): for each module its latest call."""

    by_place: dict[tuple[str, int], ReducedPattern] = field(default_factory=dict)
    missing: dict[tuple[str, int], str] = field(default_factory=dict)
    """Why there is none of a module that was called."""

    @property
    def heads(self) -> list[HeadStatistics]:
        """A row for each head, by site and layer."""
        return [row for place in sorted(self.by_place) for row in self.by_place[place].heads]


@contextlib.contextmanager
def record_statistics(
    model: nn.Module,
    *,
    sites: Collection[str] | None = None,
    keep: Mapping[str, Keep] | None = None,
) -> Iterator[ReducedPatterns]:
    """Within this context every attention call in `model` leaves its statistics, and no weights.

    For sequences on which `record_patterns` would hold too much. The sums are computed from the q and k of each call;
    that they go with its output is not checked. `keep` says by site which queries and keys are no padding, as in
    `head_statistics`; of a site that it leaves out, the mask of the call says which keys are. `sites` limits what is
    recorded.

    The softmax of one `attend` over whole sequences can be summed up so. A module that reports another pattern, calls
    `attend` not exactly once, normalises by anything else or decodes token by token is left out, and
    `ReducedPatterns.missing` says why.
    """
    patterns = ReducedPatterns()
    with observe(model, _Reducer(patterns, sites, keep or {})):
        yield patterns


@torch.no_grad()
def reduced_statistics(
    q: Float[Tensor, "batch heads query head_dim"],
    k: Float[Tensor, "batch key_heads key head_dim"],
    mask: Mask,
    *,
    scale: float | None = None,
    score_mod: ScoreMod | None = None,
    mask_mod: MaskMod | None = None,
    query_keep: Bool[Tensor, "batch query"] | None = None,
    key_keep: Bool[Tensor, "batch key"] | None = None,
    causal: bool | None = None,
    site: str = "",
    layer: int = 0,
) -> ReducedPattern:
    """`statistics.head_statistics` and `received_mass` of softmax(score_mod(q·kᵀ·scale)), of whole sequences.

    `mask` is bound. Positions count the keys of `key_keep`, those that the mask keeps unless it is given, and a row is
    its shares of what both keep. `causal` has diagonality measured against causal uniform attention, and is that of the
    mask unless given. `scale` is 1/√head_dim unless given. Raises `ValueError` where there is no key, and for shapes
    that do not fit together.
    """
    batch, queries, keys = mask.shape
    if keys == 0:
        raise ValueError("a pattern without a key has no statistics")
    wide = torch.promote_types(q.dtype, torch.float32)
    key_keep = mask.key_keep if key_keep is None else key_keep
    kept = [
        _checked(name, keep, (batch, length), q.device)
        for name, keep, length in (("query_keep", query_keep, queries), ("key_keep", key_keep, keys))
    ]
    is_causal = mask.causal if causal is None else causal
    mask = _with_keys(mask, kept[1])
    query_at, key_at = (keep.cumsum(-1) - 1 for keep in kept)
    last_query, last_key = (keep.sum(-1, keepdim=True) - 1 for keep in kept)
    facing = (query_at * last_key).double() / last_query.clamp(min=1)
    rows = row_reductions(
        q,
        k,
        mask,
        scale=scale,
        query_position=facing.to(wide),
        key_position=key_at.to(wide),
        score_mod=score_mod,
        mask_mod=mask_mod,
    )
    sums = key_reductions(q, k, rows.lse, mask, scale=scale, query_keep=kept[0], score_mod=score_mod, mask_mod=mask_mod)
    counted = (rows.lse != -torch.inf) & kept[0][:, None]
    num_rows = sums.rows.sum(0)

    def mean(x: Tensor) -> Tensor:
        """[heads]: over the rows that count, of all sentences alike."""
        return x.double().where(counted, 0.0).sum((0, 2)) / num_rows

    def share(is_key: Tensor) -> Tensor:
        """[heads]: of the rows that count, what those keys receive."""
        return sums.received.where((kept[1] & is_key)[:, None], 0.0).sum((0, 2)) / num_rows

    allowed = last_key + 1
    if is_causal:
        allowed = allowed.minimum(query_at + 1)
    by_chance = mean(_distance_to_all(facing, allowed.double())[:, None])
    distance = mean(rows.mean_distance)
    columns = [
        mean(rows.entropy),
        mean(rows.entropy.exp()),
        mean(rows.largest_weight),
        distance,
        1 - distance / by_chance.where(by_chance > 0, torch.nan),
        share(key_at == 0),
        share(key_at == last_key),
    ]
    table = zip(num_rows.tolist(), torch.stack([column.double() for column in columns], -1).tolist(), strict=True)
    heads = [
        HeadStatistics(site, layer, head, PatternKind.PROBABILITY, count, *values)
        for head, (count, values) in enumerate(table)
    ]
    return ReducedPattern(heads, sums.received / sums.rows[..., None], rows)


def _checked(name: str, keep: Tensor | None, shape: tuple[int, int], device: torch.device) -> Tensor:
    if keep is None:
        return torch.ones(shape, dtype=torch.bool, device=device)
    if keep.shape != shape or keep.dtype != torch.bool:
        raise ValueError(f"{name} is {keep.dtype} of shape {list(keep.shape)}, the call needs torch.bool {list(shape)}")
    return keep.to(device)


def _with_keys(mask: Mask, kept: Bool[Tensor, "batch key"]) -> Mask:
    """The bound mask, open to kept keys only: a row's softmax over these is its shares of them."""
    joined = kept if mask.key_keep is None else kept & mask.key_keep
    return dataclasses.replace(mask, key_keep=None if joined.all() else joined).bind(*mask.shape, kept.device)


def _distance_to_all(facing: Tensor, count: Tensor) -> Tensor:
    """The mean of |facing - j| over j = 0, 1, ..., count - 1, summed up on either side of `facing`."""
    before = (facing.floor() + 1).clamp(min=0).minimum(count)
    total = facing * (2 * before - count) + count * (count - 1) / 2 - before * (before - 1)
    return total / count


class _Reducer(Observer):
    def __init__(self, patterns: ReducedPatterns, sites: Collection[str] | None, keep: Mapping[str, Keep]) -> None:
        self._patterns = patterns
        self._sites = sites
        self._keep = keep
        # By module: a variant may contain another attention module.
        self._given: dict[Attention, tuple[int, int]] = {}
        self._calls: dict[Attention, list[AttendCall]] = {}
        self._reported: set[Attention] = set()

    def called(self, module: Attention, query: Tensor, key: Tensor, value: Tensor) -> None:
        self._given[module] = query.shape[1], key.shape[1]
        self._calls[module] = []
        self._reported.discard(module)

    def attended(self, module: Attention, call: AttendCall) -> None:
        self._calls.setdefault(module, []).append(call)

    def reported(self, module: Attention, *_: object) -> None:
        self._reported.add(module)

    def returned(self, module: Attention, output: Tensor) -> None:
        calls = self._calls.pop(module, [])
        if self._sites is not None and module.site not in self._sites:
            return
        place = (module.site, module.layer)
        self._patterns.by_place.pop(place, None)
        self._patterns.missing.pop(place, None)
        if habit := self._habit(module, calls):
            self._patterns.missing[place] = f"{type(module).__name__} {habit}: use record_patterns"
            return
        (call,) = calls
        query_keep, key_keep = self._keep.get(module.site, (None, None))
        self._patterns.by_place[place] = reduced_statistics(
            call.q.detach(),
            call.k.detach(),
            call.mask,
            scale=call.scale,
            score_mod=call.score_mod,
            mask_mod=call.mask_mod,
            query_keep=query_keep,
            key_keep=key_keep,
            # As head_statistics has it; outside of a model the mask is all there is.
            causal=module.site in CAUSAL_SITES if module.site else None,
            site=module.site,
            layer=module.layer,
        )

    def _habit(self, module: Attention, calls: list[AttendCall]) -> str:
        """What keeps a module's pattern from being summed up, as a predicate; empty where nothing does."""
        if module in self._reported:
            return "reports a pattern of its own"
        if len(calls) != 1:
            return f"calls attend {len(calls)} times"
        (call,) = calls
        if call.normaliser is not None:
            return "has another normaliser than the softmax"
        if call.mask.query_offset or call.mask.key_offset:
            return "was given a part of a sequence"
        if (call.q.shape[2], call.k.shape[2]) != self._given[module]:
            return "calls attend with other queries or keys than it is given"
        return ""
