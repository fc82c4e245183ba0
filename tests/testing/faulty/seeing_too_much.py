"""Wrong on purpose: variants that see what is hidden from them."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch import Tensor

from attnframe import Mask, merge_heads, register_attention, split_heads
from attnframe.attention.multi_head import MultiHead


@register_attention("rolled_keys")
class RolledKeys(MultiHead):
    """Keys and values are rolled by one, so that each token sees the next one."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        return super().attend(q, k.roll(-1, dims=2), v.roll(-1, dims=2), mask, **how)


@register_attention("future_by_gradient")
class FutureByGradient(MultiHead):
    """The value of the output is right; the gradient of the mean token is smuggled in beside it."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        mean = value.mean(dim=1, keepdim=True)
        return super().forward(query, key, value, mask) + 0.1 * (mean - mean.detach())


@register_attention("ignored_padding")
class IgnoredPadding(MultiHead):
    """Attends to padding, for it takes the causal part of the mask alone."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        return super().attend(q, k, v, dataclasses.replace(mask, key_keep=None), **how)


@register_attention("ignored_window")
class IgnoredWindow(MultiHead):
    """Attends to keys that lie outside of the window."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        return super().attend(q, k, v, dataclasses.replace(mask, window=None), **how)


@register_attention("soft_masking")
class SoftMasking(MultiHead):
    """Takes 30 off the scores of hidden keys, which is enough until a key is large."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = (split_heads(x, self.num_heads) for x in self.projected(query, key, value))
        scores = q @ k.mT / q.shape[-1] ** 0.5 - 30.0 * ~mask.dense()
        return self.output_proj(merge_heads(scores.softmax(-1) @ v))

    def projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.query_proj(query), self.key_proj(key), self.value_proj(value)


@register_attention("mean_over_padding")
class MeanOverPadding(MultiHead):
    """Divides by the number of all keys, padding included, so that what is real gets less with more padding."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        kept = mask.dense().sum(-1, keepdim=True)
        return super().attend(q, k, v, mask, **how) * kept / k.shape[2]


@register_attention("length_of_padding")
class LengthOfPadding(MultiHead):
    """Sharper in longer sequences, and takes the padded length for the length."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        return super().attend(q * torch.tensor(float(k.shape[2])).log(), k, v, mask, **how)


@register_attention("nan_rows")
class NanRows(MultiHead):
    """A softmax over scores that are all -inf: NaN where nothing may be attended to."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k, v = split_heads(self.key_proj(key), self.num_heads), split_heads(self.value_proj(value), self.num_heads)
        scores = (q @ k.mT / q.shape[-1] ** 0.5).masked_fill(~mask.dense(), -torch.inf)
        return self.output_proj(merge_heads(scores.softmax(-1) @ v))


@register_attention("uniform_rows")
class UniformRows(MultiHead):
    """A softmax over scores that are all the lowest number: all keys alike where nothing may be attended to."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k, v = split_heads(self.key_proj(key), self.num_heads), split_heads(self.value_proj(value), self.num_heads)
        scores = q @ k.mT / q.shape[-1] ** 0.5
        scores = scores.masked_fill(~mask.dense(), torch.finfo(scores.dtype).min)
        return self.output_proj(merge_heads(scores.softmax(-1) @ v))


@register_attention("value_bias_in_blind_rows")
class ValueBiasInBlindRows(MultiHead):
    """Adds a bias behind the weights, where a query that may attend to nothing gets it too, also with bias=False."""

    def __init__(self, d_model: int, num_heads: int, bias: bool = True) -> None:
        super().__init__(d_model, num_heads, bias)
        self.late_bias = torch.nn.Parameter(torch.ones(d_model // num_heads))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        return super().attend(q, k, v, mask, **how) + self.late_bias
