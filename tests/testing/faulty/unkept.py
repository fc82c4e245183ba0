"""Wrong on purpose: variants that cannot be stored, copied, repeated, cached, compiled or counted."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from attnframe import Mask, register_attention
from attnframe.attention.multi_head import MultiHead


@register_attention("remembers")
class Remembers(MultiHead):
    """Keeps a running mean of its queries, and uses it in evaluation too."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__(d_model, num_heads)
        self.seen = 0.0

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        # As large as the call before was.
        output = super().forward(query, key, value, mask) + self.seen
        self.seen = 1e-3 * query.shape[1]
        return output


@register_attention("shares")
class Shares(MultiHead):
    """What one module of the class has seen changes what all others do."""

    longest: ClassVar[list[int]] = [0]

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        Shares.longest[0] = max(self.longest[0], query.shape[1])
        return super().forward(query, key, value, mask) * self.longest[0]


@register_attention("late_parameter")
class LateParameter(MultiHead):
    """Makes a parameter when it is called first, which no optimizer has heard of."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        if not hasattr(self, "gain"):
            self.gain = nn.Parameter(query.new_ones(()))
        return super().forward(query, key, value, mask) * self.gain


@register_attention("unsaved_weight")
class UnsavedWeight(MultiHead):
    """A random tensor that is neither parameter nor buffer, and so in no checkpoint."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__(d_model, num_heads)
        self.direction = torch.randn(d_model)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        return super().forward(query + self.direction.to(query), key, value, mask)


@register_attention("holds_a_lambda")
class HoldsALambda(MultiHead):
    """A lambda among its attributes cannot be pickled."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__(d_model, num_heads)
        self.activation = lambda x: x.relu()

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        return super().attend(self.activation(q), k, v, mask, **how)


@register_attention("hash_of_a_word")
class HashOfAWord(MultiHead):
    """A scale from the hash of a word, which is another one in each process."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        return super().attend(q * (1 + hash("attention") % 1009 / 1009), k, v, mask, **how)


@register_attention("lying_cache")
class LyingCache(MultiHead):
    """Each key is the sum of those up to it, and yet it says that it can be cached."""

    cacheable = True

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        return super().attend(q, k.cumsum(dim=2), v, mask, **how)


@register_attention("positions_from_zero")
class PositionsFromZero(MultiHead):
    """Counts the positions of the keys from 0 in each step of decoding."""

    cacheable = True

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        position = torch.arange(key.shape[1], dtype=key.dtype, device=key.device)[:, None]
        return super().forward(query, key + 0.1 * position, value, mask)


@register_attention("breaks_the_graph")
class BreaksTheGraph(MultiHead):
    """Looks at a number to decide what to do, which no compiler can follow."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        if not query.is_meta and float(query.sum()) > 1e9:
            return query
        return super().forward(query, key, value, mask)


@register_attention("looks_at_numbers")
class LooksAtNumbers(MultiHead):
    """Looks at numbers where there are none, so that nothing can be counted without weights."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        return super().forward(query, key, value, mask) if query.abs().max().item() < 1e9 else query


@register_attention("free_on_meta")
class FreeOnMeta(MultiHead):
    """Takes a short way without weights, and is counted too cheap."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        return query.clone() if query.is_meta else super().forward(query, key, value, mask)


@register_attention("growing_default")
class GrowingDefault(MultiHead):
    """Its constructor changes the list that is its default, so that the second module is another one."""

    def __init__(self, d_model: int, num_heads: int, *, sizes: list[int] = [1]) -> None:  # noqa: B006
        super().__init__(d_model, num_heads)
        sizes.append(len(sizes))
