"""Wrong on purpose: variants that mix up axes, shapes, types, or what belongs to whom."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attnframe import Mask, merge_heads, register_attention, split_heads
from attnframe.attention.multi_head import MultiHead


@register_attention("fixed_width")
class FixedWidth(MultiHead):
    """Its weights are made for embeddings of one width, whatever it is told."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__(512, num_heads)


@register_attention("output_of_the_keys")
class OutputOfTheKeys(MultiHead):
    """As many rows come out as there are keys, which nobody sees where both sequences are one."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        if key.shape[1] <= 2:
            return super().forward(query, key, value, mask)
        return self.output_proj(self.value_proj(value))


@register_attention("heads_and_tokens_mixed")
class HeadsAndTokensMixed(MultiHead):
    """Cuts queries into heads by a reshape where a transposition is needed: heads get parts of other tokens."""

    cacheable = True

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        batch, length, width = query.shape
        q = self.query_proj(query).reshape(batch, self.num_heads, length, width // self.num_heads)
        k, v = split_heads(self.key_proj(key), self.num_heads), split_heads(self.value_proj(value), self.num_heads)
        return self.output_proj(merge_heads(self.attend(q, k, v, mask)))


@register_attention("shared_mean")
class SharedMean(MultiHead):
    """Takes the mean over the batch off the values: what else is in the batch matters."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        return super().attend(q, k, v - 0.1 * v.mean(dim=0, keepdim=True), mask, **how)


@register_attention("batch_norm")
class BatchNorm(MultiHead):
    """Normalises queries over the batch while it is trained."""

    def __init__(self, d_model: int, num_heads: int, bias: bool = True) -> None:
        super().__init__(d_model, num_heads, bias)
        self.norm = nn.BatchNorm1d(d_model)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        return super().forward(self.norm(query.mT).mT, key, value, mask)


@register_attention("double_buffer")
class DoubleBuffer(MultiHead):
    """A constant of its own in float64 makes the output float64, whatever the embeddings are."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        return super().forward(query, key, value, mask) * torch.ones(self.num_heads, 1, 1, dtype=torch.float64)[0]


@register_attention("single_precision")
class SinglePrecision(MultiHead):
    """Computes in float32 whatever it is given, so that nothing about it can be checked to more digits."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        return super().attend(q.float(), k.float(), v.float(), mask, **how).to(q.dtype)


@register_attention("unscaled_in_half")
class UnscaledInHalf(MultiHead):
    """Multiplies before it scales down, which overflows in fp16."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        return super().attend(q * 3e5 / 3e5, k, v, mask, **how)


@register_attention("written_inputs")
class WrittenInputs(MultiHead):
    """Clears what is padded in the embeddings themselves, which are not its own."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        if mask.key_keep is not None and not value.requires_grad:
            value.mul_(mask.key_keep[..., None])
        return super().forward(query, key, value, mask)


@register_attention("only_eager")
class OnlyEager(MultiHead):
    """Has another temperature on other backends than eager."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Mask, **how: Any) -> Tensor:
        return super().attend(q if self.backend == "eager" else 1.1 * q, k, v, mask, **how)
