"""`Attention`, the base class of every variant: embeddings in, embeddings out."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from attnframe.attention.caching import KeptTokens
from attnframe.attention.mask import Mask
from attnframe.attention.observing import AttendCall, Intervention, Observer, PatternKind
from attnframe.attention.scoring import Scoring
from attnframe.backends import MaskMod, Normaliser, Request, Resolution, ScoreMod, resolve
from attnframe.backends.resolution import AUTO
from attnframe.backends.score_mods import kinds
from attnframe.errors import UserError

if TYPE_CHECKING:
    from jaxtyping import Float


class Attention(nn.Module):
    """Base class of all variants.

    A subclass defines ``__init__`` (any of `d_model, num_heads, dropout, d_context, bias`, and keyword-only options)
    and ``forward(query, key, value, mask)``. It owns its projections; what happens between the heads' q, k, v and
    their output it leaves to `attend`, or does itself and calls `report_pattern`.
    """

    cacheable: bool = False
    """The promise that decoding may call `forward` with new tokens alone, because each key and value given to `attend`
    depends on its own token (and its position, counted from ``mask.key_offset``), and each query's output on that
    query (and its position, counted from ``mask.query_offset``) and on what it attends to. Every class makes it itself:
    it is not inherited, for what a subclass changes may break it. Without it the prefix is recomputed."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        promise = cls.__dict__.get("cacheable", False)
        if not isinstance(promise, bool):
            raise UserError(f"{cls.__qualname__}.cacheable is {promise!r}: it is True or False (or set in __init__)")
        cls.cacheable = promise

    def __init__(self) -> None:
        super().__init__()
        self.site = ""
        self.layer = 0
        self.backend = AUTO
        self.attention_dropout = 0.0
        self.scoring: Scoring | None = None
        self._resolutions: dict[Request, Resolution] = {}
        self._observers: list[Observer] = []
        self._interventions: list[Intervention] = []
        self._kept: KeptTokens | None = None

    def __call__(
        self,
        query: Float[Tensor, "batch query d_model"],
        key: Float[Tensor, "batch key d_context"],
        value: Float[Tensor, "batch key d_context"],
        mask: Mask | None = None,
    ) -> Float[Tensor, "batch query d_model"]:
        """ΔE for each query embedding. Without a mask every query may attend to every key."""
        if key.shape[:2] != value.shape[:2] or key.shape[0] != query.shape[0]:
            raise UserError(
                f"{type(self).__name__} was called with query {list(query.shape)}, key {list(key.shape)} and value "
                f"{list(value.shape)}: all need the same batch, and key and value the same length"
            )
        mask = mask or Mask()
        bound = mask.bind(query.shape[0], query.shape[1], mask.key_offset + key.shape[1], query.device)
        if self._kept is not None:
            self._kept.begin(bound)
        for observer in self._observers:
            observer.called(self, query, key, value)
        output: Tensor = super().__call__(query, key, value, bound)
        if not isinstance(output, Tensor):
            raise UserError(f"{type(self).__name__}.forward returned a {type(output).__name__}, not one tensor")
        if output.shape != query.shape:
            raise UserError(
                f"{type(self).__name__}.forward returned shape {list(output.shape)}, "
                f"but the embeddings it was given have {list(query.shape)}"
            )
        for observer in self._observers:
            observer.returned(self, output)
        return output

    def attend(
        self,
        q: Float[Tensor, "batch heads query head_dim"],
        k: Float[Tensor, "batch key_heads key head_dim"],
        v: Float[Tensor, "batch key_heads key value_dim"],
        mask: Mask,
        *,
        scale: float | None = None,
        score_mod: ScoreMod | None = None,
        mask_mod: MaskMod | None = None,
        normaliser: Normaliser | None = None,
    ) -> Float[Tensor, "batch heads query value_dim"]:
        """softmax(score_mod(q·kᵀ·scale))·v on the module's backend; `scale` is 1/√head_dim unless given.

        With `normaliser`, a function ``(scores, keep) -> weights``, these weights take the place of the softmax; where
        their rows sum to anything but 1, say so by `report_pattern`.

        The one place where backend, attention dropout, recording, the cache of keys and values, and the options that
        every variant has (`scoring`) act. `value_dim` may differ from `head_dim`; `key_heads` may divide `heads`. A
        query that may attend to nothing gets zeros.
        """
        scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
        if self.scoring is not None:
            q, k = self.scoring(q, k, mask)
            score_mod = self.scoring.capped(score_mod)
        if self._kept is not None:
            k, v = self._kept.completed(k, v)
        # Checked here, for a kernel without a dense mask would read past the end of the shorter one.
        if k.shape[2] != v.shape[2] or mask.shape != (q.shape[0], q.shape[2], k.shape[2]):
            raise UserError(
                f"{type(self).__name__} calls attend with {q.shape[2]} queries, {k.shape[2]} keys and {v.shape[2]} "
                f"values in a batch of {q.shape[0]} under a mask for (batch, query, key) = {mask.shape}; these must "
                f"agree (mask.bind sets the mask's)"
            )
        dropout = self.attention_dropout if self.training else 0.0
        request = Request(
            device=q.device.type,
            dtype=q.dtype,
            heads=q.shape[1],
            key_heads=k.shape[1],
            head_dim=q.shape[-1],
            value_dim=v.shape[-1],
            dropout=dropout,
            score_mod=kinds(score_mod),
            mask_mod=mask_mod is not None,
            normaliser=normaliser is not None,
            # A score_mod may depend on parameters where q, k and v depend on none that is trained.
            trains=torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v, *self.parameters())),
        )
        backend, statistics = self.resolution(request).backend, None
        if normaliser is None and any(observer.wants_statistics for observer in self._observers):
            output, statistics = backend.attend_with_statistics(
                q, k, v, mask, scale=scale, dropout=dropout, score_mod=score_mod, mask_mod=mask_mod
            )
        else:
            output = backend.attend(
                q,
                k,
                v,
                mask,
                scale=scale,
                dropout=dropout,
                score_mod=score_mod,
                mask_mod=mask_mod,
                normaliser=normaliser,
            )
        if self._observers or self._interventions:
            call = AttendCall(request, q, k, v, mask, scale, score_mod, mask_mod, normaliser, output, statistics)
            for observer in self._observers:
                observer.attended(self, call)
            for intervention in self._interventions:
                call = dataclasses.replace(call, output=intervention(call))
            output = call.output
        return output

    def report_pattern(
        self, combine: Callable[..., Tensor], kind: PatternKind | str, *, mass: float | Tensor | None = None
    ) -> None:
        """Say what this call's pattern is, where it is not the weights of one `attend`.

        `combine` is called only while someone records, with the weights [batch, heads, query, key] of each `attend`
        call of this forward in order, and returns the effective pattern of the same shape. `mass` is what its rows sum
        to, a number or a tensor that broadcasts to [batch, heads, query], where that is known; of probabilities it is
        1. Rows of queries that may attend to nothing are zero whatever the mass.
        """
        for observer in self._observers:
            observer.reported(self, combine, PatternKind(kind), mass)

    def cached(self, name: str, new: Float[Tensor, "batch *rest new width"]) -> Float[Tensor, "batch *rest key width"]:
        """`new`, made of the keys that `forward` was given, behind the same of all earlier ones: of every token so far.

        For a variant that keeps something else than k and v, such as the latent of DeepSeek-AI 2024, section 2.1.2,
        https://arxiv.org/abs/2405.04434: what it then gives to `attend` is complete, and `attend` keeps nothing. Once
        in a forward for each `name`. Without a cache this is `new` itself.
        """
        if self._kept is None:
            return new
        whole = self._kept.extended(name, new)
        if whole.shape[-2] != self._kept.length:
            raise UserError(
                f"{type(self).__name__}: with cached({name!r}, ...) there are {whole.shape[-2]} tokens in the last "
                f"axis but one, and {self._kept.length} in the sequence; call it once in a forward, with what is made "
                f"of its keys"
            )
        return whole

    def resolution(self, request: Request) -> Resolution:
        """The backend that runs `request`. Raises `BackendError` when the module's own choice cannot."""
        known = self._resolutions.get(request)
        if known is None:
            known = resolve(self.backend, [request])
            # torch.compile cannot write a key that it made itself into a dictionary of the world outside its graph.
            if not torch.compiler.is_compiling():
                self._resolutions[request] = known
        return known

    def settle(self, resolution: Resolution, requests: Iterable[Request]) -> None:
        """Fix the backend that runs each of `requests`."""
        self._resolutions.update(dict.fromkeys(requests, resolution))

    def backends_used(self) -> set[str]:
        """Names of the backends that its calls were resolved to; "own" where it never calls `attend`."""
        return {resolution.backend.name for resolution in self._resolutions.values()} or {"own"}

    @contextlib.contextmanager
    def observed_by(self, observer: Observer) -> Iterator[None]:
        """Within this context `observer` sees every call."""
        self._observers.append(observer)
        try:
            yield
        finally:
            self._observers.remove(observer)

    @contextlib.contextmanager
    def changed_by(self, intervention: Intervention) -> Iterator[None]:
        """Within this context `attend` returns what `intervention` makes of its call; observers see the call itself."""
        self._interventions.append(intervention)
        try:
            yield
        finally:
            self._interventions.remove(intervention)

    @contextlib.contextmanager
    def set_apart(self) -> Iterator[None]:
        """Within this context it runs on `eager`, nobody observes or changes its calls, and no key or value is kept."""
        before = dict(self.__dict__)
        self.backend, self._resolutions = "eager", {}
        self._observers, self._interventions, self._kept = [], [], None
        try:
            yield
        finally:
            self.__dict__.update(before)

    @property
    def can_be_cached(self) -> bool:
        """Whether it is `cacheable`, and has no other attention inside, which would need a cache of its own."""
        return self.cacheable and not any(isinstance(child, Attention) for child in self.modules() if child is not self)

    @contextlib.contextmanager
    def keeping(self, kept: KeptTokens) -> Iterator[None]:
        """Within this context each call is given new keys alone, and `kept` holds what it needs of the earlier ones."""
        before, self._kept = self._kept, kept
        try:
            yield
        finally:
            self._kept = before

    def __getstate__(self) -> dict[str, Any]:
        # Observers, interventions, resolved backends and caches belong to this process; a copy finds its own.
        return {**self.__dict__, "_observers": [], "_interventions": [], "_resolutions": {}, "_kept": None}
