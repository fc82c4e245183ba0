"""BigBird: each query sees its neighbours, a few tokens that all see, and a few tokens by chance."""

from __future__ import annotations

from torch import Tensor, nn

from attnframe import Attention, Mask, UserError, merge_heads, register_attention, split_heads

_PRIME = 2**31 - 1


@register_attention("bigbird")
class BigBird(Attention):
    """softmax(Q_h·K_hᵀ/√d_k where j is near i, global, or linked to i by chance)·V_h·W_O: sparse attention.

    Reference: Zaheer et al. 2020, section 2, https://arxiv.org/abs/2007.14062. Our `window` is how far a neighbour may
    be on either side (half their w), `num_global` their g: the first tokens are seen by all and see all (their ITC).
    Each token is linked to `num_random` tokens before it (their r), which a fixed function of `link_seed`, head and its
    position chooses, and those see it in turn: theirs links each query to r tokens of the whole sequence. So neither
    padding nor the length changes a link, and a causal mask leaves those that lie back. Tokens, not blocks of 64.

    It is sparse in what is seen, not in time: `mask_mod` hides scores, and a backend may form them all the same.
    Positions are those of query and key, in cross-attention too.

    The corner of the contract that it shows: a `mask_mod`, and chance that no training step and no batch sees.
    """

    cacheable = True

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_context: int | None = None,
        bias: bool = True,
        *,
        window: int = 3,
        num_global: int = 2,
        num_random: int = 2,
        link_seed: int = 0,
    ) -> None:
        super().__init__()
        for name, number in (("window", window), ("num_global", num_global), ("num_random", num_random)):
            if number < 0:
                raise UserError(f"{name}={number} must be 0 or more")
        d_context = d_model if d_context is None else d_context
        self.num_heads, self.window, self.num_global, self.num_random = num_heads, window, num_global, num_random
        self.link_seed = link_seed
        self.query_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_proj = nn.Linear(d_context, d_model, bias=bias)
        self.value_proj = nn.Linear(d_context, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        v = split_heads(self.value_proj(value), self.num_heads)
        return self.output_proj(merge_heads(self.attend(q, k, v, mask, mask_mod=self._sees)))

    def _sees(self, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        sees = (q_idx - kv_idx).abs() <= self.window
        sees = sees | (q_idx < self.num_global) | (kv_idx < self.num_global)
        for link in range(self.num_random):
            sees = sees | (kv_idx == self._linked(head, q_idx, link)) | (q_idx == self._linked(head, kv_idx, link))
        return sees

    def _linked(self, head: Tensor, position: Tensor, link: int) -> Tensor:
        """The token before `position` that it is linked to; the first is linked to itself."""
        # Any function that scatters its argument will do, if it gives the same on every device: squares modulo a prime,
        # which are below 2^62.
        number = (position * 48_271 + head * 40_014 + link * 69_621 + self.link_seed % _PRIME * 16_807) % _PRIME
        for _ in range(3):
            number = (number * number + 1_013_904_223) % _PRIME
        return number % position.clamp(min=1)
