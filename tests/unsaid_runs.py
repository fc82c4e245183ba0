"""Variants that do not say what their pattern is, and runs of seconds with them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny_run import tiny_run
from torch import Tensor, nn

from attnframe import Attention, Mask, merge_heads, register_attention, split_heads

MEAN_POOL = "MeanPool calls attend 0 times and reports no pattern: call self.report_pattern(...) in its forward"

SETTINGS = ("trainer.max_steps=12", "trainer.val_check_interval=5", "data.eval_max_tokens=200")
KINDS = {
    "everywhere": (*SETTINGS, "attention=mean_pool"),
    "at_cross": (*SETTINGS, "attention@cross=mean_pool"),
    # Head counts differ, so that a shift of the layers would be seen.
    "first_cross_layer": (*SETTINGS, "layers.cross=[mean_pool,multi_head]", "model.num_heads=2"),
    "extra_key": (*SETTINGS, "attention=extra_key"),
    "by_chunks": (*SETTINGS, "layers.cross=[by_chunks,self]", "trainer.limit_test_batches=1.0"),
}


def unsaid_run(paths: pytest.TempPathFactory, kind: str) -> Path:
    """The folder of a run of one of `KINDS`, which all tests share: trained where it is not there yet."""
    register_unsaid()
    path = paths.getbasetemp() / "unsaid" / kind
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        tiny_run(path, *KINDS[kind])
    return path


def register_unsaid() -> None:
    """Register the variants; the registry forgets them after the test."""

    @register_attention("mean_pool")
    class MeanPool(Attention):
        """mean of the allowed values, times W: no call of attend."""

        def __init__(self, d_model: int) -> None:
            super().__init__()
            self.proj = nn.Linear(d_model, d_model)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            keep = mask.dense()[:, 0].to(value.dtype)
            return keep / keep.sum(-1, keepdim=True).clamp(min=1) @ self.proj(value)

    @register_attention("extra_key")
    class ExtraKey(Attention):
        """softmax over the keys and one more that is nobody's, which every query may attend to."""

        def __init__(self, d_model: int, num_heads: int) -> None:
            super().__init__()
            self.num_heads = num_heads
            self.extra = nn.Parameter(torch.randn(d_model))
            self.proj = nn.Linear(d_model, d_model)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            batch, queries, keys = mask.shape
            keep = torch.cat([mask.dense(), mask.dense().new_ones(batch, 1, queries, 1)], dim=-1)[:, 0]
            q, k, v = (
                split_heads(self.proj(x), self.num_heads)
                for x in (query, *(torch.cat([x, self.extra.expand(batch, 1, -1)], dim=1) for x in (key, value)))
            )
            open_mask = Mask().bind(batch, queries, keys + 1, query.device)
            return merge_heads(self.attend(q, k, v, open_mask, mask_mod=lambda b, h, i, j: keep[b, i, j]))

    @register_attention("by_chunks")
    class ByChunks(Attention):
        """softmax(QKᵀ)V for seven queries at a time: a call of attend for each seven."""

        def __init__(self, d_model: int) -> None:
            super().__init__()
            self.proj = nn.Linear(d_model, d_model)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            q, k, v = (split_heads(self.proj(x), 1) for x in (query, key, value))
            keep = mask.dense()[:, 0]
            outputs = []
            for start in range(0, query.shape[1], 7):
                part = q[:, :, start : start + 7]
                # All of what the mask says, cut to these queries.
                rows = keep[:, start : start + 7]
                open_mask = Mask().bind(len(q), part.shape[2], key.shape[1], query.device)
                outputs.append(self.attend(part, k, v, open_mask, mask_mod=lambda b, h, i, j, rows=rows: rows[b, i, j]))
            return merge_heads(torch.cat(outputs, dim=2))
