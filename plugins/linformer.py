"""Linformer: keys and values projected along the length, to as many rows whatever the length."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attnframe import Attention, Mask, UserError, merge_heads, register_attention, split_heads


@register_attention("linformer")
class Linformer(Attention):
    """softmax(Q_h·(E·K_h)ᵀ/√d_k)·(F·V_h)·W_O: attention to `rank` mixtures of tokens, learned by position.

    Reference: Wang et al. 2020, section 4, https://arxiv.org/abs/2006.04768. Our `rank` is their k, `max_length` their
    n, `key_mix` and `value_mix` their E and F, the same for all heads of a layer. A shorter sequence takes their first
    columns, a longer one is refused. What may not be attended to is set to 0 before it is mixed.

    A mixture holds all tokens, so there is no causal form and no window: it can stand at encoder_self and at cross.

    The corner of the contract that it shows: masks that are refused, `attend` with other keys than `forward` was given,
    and a pattern over tokens, weights times F, that may be negative. It cannot be cached, for what it gives to `attend`
    are no tokens; so `rope`, which would turn mixtures by their number, means nothing here.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_context: int | None = None,
        bias: bool = True,
        *,
        rank: int = 32,
        max_length: int = 256,
    ) -> None:
        super().__init__()
        for name, number in (("rank", rank), ("max_length", max_length)):
            if number < 1:
                raise UserError(f"{name}={number} must be at least 1")
        d_context = d_model if d_context is None else d_context
        self.num_heads, self.rank, self.max_length = num_heads, rank, max_length
        self.query_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_proj = nn.Linear(d_context, d_model, bias=bias)
        self.value_proj = nn.Linear(d_context, d_model, bias=bias)
        self.output_proj = nn.Linear(d_model, d_model, bias=bias)
        self.key_mix = nn.Parameter(torch.randn(rank, max_length) * rank**-0.5)
        self.value_mix = nn.Parameter(torch.randn(rank, max_length) * rank**-0.5)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        if mask.causal or mask.window is not None:
            what = "causal mask" if mask.causal else "window"
            raise UserError(
                f"linformer cannot keep to a {what}: it mixes all keys before it weighs them; "
                f"attention@encoder_self=linformer and attention@cross=linformer have none"
            )
        batch, queries, length = mask.shape
        if length > self.max_length:
            raise UserError(f"linformer mixes at most max_length={self.max_length} keys, and there are {length}")
        q = split_heads(self.query_proj(query), self.num_heads)
        k = self._mixed(self.key_mix, self.key_proj(key), mask)
        v = self._mixed(self.value_mix, self.value_proj(value), mask)
        # All mixtures of a sequence without keys are 0, and so is what comes out.
        output = self.attend(q, k, v, Mask().bind(batch, queries, self.rank, query.device))
        self.report_pattern(lambda weights: weights @ self._mixing(self.value_mix, mask).to(weights.dtype), "signed")
        return self.output_proj(merge_heads(output))

    def _mixed(self, mix: Tensor, x: Tensor, mask: Mask) -> Tensor:
        if mask.key_keep is not None:
            x = x.masked_fill(~mask.key_keep[..., None], 0.0)
        return split_heads(mix[:, : x.shape[1]] @ x, self.num_heads)

    def _mixing(self, mix: Tensor, mask: Mask) -> Tensor:
        """[rank, key] or [batch, 1, rank, key]: what each token is multiplied by on its way into each row."""
        mix = mix[:, : mask.shape[2]]
        return mix if mask.key_keep is None else mix.masked_fill(~mask.key_keep[:, None, None], 0.0)
