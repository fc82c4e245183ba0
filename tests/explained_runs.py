"""Runs of seconds to explain sentences of, and variants that leave something to explain."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from tiny_run import tiny_run
from torch import Tensor

from attnframe import Attention, Mask, register_attention, split_heads
from attnframe.attention import PatternKind
from attnframe.runs.building import attention_factory, build_model
from attnframe.runs.loading import Run

TRAINED = ("trainer.max_steps=60", "data.max_tokens=700")
"""Long enough that its sentences differ."""

KINDS = {
    "multi_head": TRAINED,
    "low_rank_v": (*TRAINED, "attention=low_rank_v", "attention.rank=5", "model.bias=false"),
    "pieces": (*TRAINED, "data.tokenizer=bpe", "data.vocab_size=97"),
}


def made_run(paths: pytest.TempPathFactory, kind: str) -> Path:
    """The folder of a run of one of `KINDS`, which all tests share: trained where it is not there yet."""
    path = paths.getbasetemp() / "explained" / kind
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        tiny_run(path, *KINDS[kind])
    return path


def with_attention(run: Run, name: str, backend: str = "auto", options: Mapping[str, object] | None = None) -> Run:
    """The run with another variant at every site, new and random."""
    settings = copy.deepcopy(dict(run.settings))
    settings["attention"], settings["backend"] = {"name": name, **(options or {})}, {"name": backend}
    torch.manual_seed(5)
    vocab = {"src_vocab_size": len(run.src_tokenizer), "tgt_vocab_size": len(run.tgt_tokenizer)}
    model = build_model(settings, attention_factory(settings), **vocab).eval()
    return dataclasses.replace(run, model=model, manifest={**run.manifest, "settings": settings})


def register_odd() -> None:
    """Variants that are no single softmax."""

    @register_attention("own_way")
    class OwnWay(Attention):
        """mean over the keys so far of V: no call of attend."""

        def __init__(self, d_model: int, num_heads: int) -> None:
            super().__init__()
            self.num_heads = num_heads
            self.value_proj = torch.nn.Linear(d_model, d_model)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            keep = mask.dense().to(value.dtype)
            weights = keep / keep.sum(-1, keepdim=True)
            heads = weights.expand(-1, self.num_heads, -1, -1)
            self.report_pattern(lambda: heads, PatternKind.IMPLICIT, mass=1.0)
            return weights[:, 0] @ self.value_proj(value)

    @register_attention("difference")
    class Difference(Attention):
        """softmax(Q₁K₁ᵀ)V - ½·softmax(Q₂K₂ᵀ)V: two calls, one signed pattern."""

        def __init__(self, d_model: int, num_heads: int) -> None:
            super().__init__()
            self.num_heads = num_heads
            self.proj = torch.nn.Linear(d_model, 2 * d_model)
            self.value_proj = torch.nn.Linear(d_model, d_model)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            qs, ks = self.proj(query).chunk(2, -1), self.proj(key).chunk(2, -1)
            v = split_heads(self.value_proj(value), self.num_heads)
            one, two = (
                self.attend(split_heads(q, self.num_heads), split_heads(k, self.num_heads), v, mask)
                for q, k in zip(qs, ks, strict=True)
            )
            self.report_pattern(lambda p1, p2: p1 - p2 / 2, "signed", mass=0.5)
            return (one - two / 2).transpose(1, 2).flatten(2)

    @register_attention("squashed")
    class Squashed(Difference):
        """tanh(softmax(QKᵀ)V): what becomes of the heads is not linear."""

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            v = split_heads(self.value_proj(value), self.num_heads)
            q, k = (split_heads(self.proj(x).chunk(2, -1)[0], self.num_heads) for x in (query, key))
            return self.attend(q, k, v, mask).transpose(1, 2).flatten(2).tanh()

    @register_attention("paired")
    class Paired(Difference):
        """Four heads that attend, two that are reported."""

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            v = split_heads(self.value_proj(value), 4)
            q, k = (split_heads(self.proj(x).chunk(2, -1)[0], 4) for x in (query, key))
            self.report_pattern(lambda p: p[:, :2] + p[:, 2:], "unnormalised", mass=2.0)
            return self.attend(q, k, v, mask).transpose(1, 2).flatten(2)

    @register_attention("boasting")
    class Boasting(Difference):
        """Says that its weights are twice what they are, and still probabilities."""

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            v = split_heads(self.value_proj(value), self.num_heads)
            q, k = (split_heads(self.proj(x).chunk(2, -1)[0], self.num_heads) for x in (query, key))
            self.report_pattern(lambda p: 2 * p, "probability")
            return self.attend(q, k, v, mask).transpose(1, 2).flatten(2)

    @register_attention("silent")
    class Silent(Difference):
        """Says nothing of its two calls."""

        def report_pattern(self, *arguments: object, **settings: object) -> None:
            pass
