"""A pass through a trained model in plain numpy and float64, written from the papers and sharing no code with it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Ids before it are special.
FIRST_WORD = 4


@dataclass(frozen=True)
class Attended:
    """One site in one layer. Arrays: [tokens, d_model], [heads, query, key], [heads, tokens, d_model]."""

    before: Array
    delta: Array
    weights: Array
    head_deltas: Array
    contributions: Array
    value_maps: Array


class HandModel:
    """`parameters` are those of a `Seq2Seq` of `multi_head` or `low_rank_v` everywhere."""

    def __init__(self, parameters: dict[str, torch.Tensor], num_heads: int) -> None:
        self.w = {name: value.double().numpy() for name, value in parameters.items()}
        self.num_heads = num_heads
        self.found: dict[tuple[str, int], Attended] = {}

    def __call__(self, src: list[int], tgt_in: list[int]) -> dict[tuple[str, int], Attended]:
        self.found = {}
        x = self._embedded("src_embedding", src)
        for layer in range(self._count("encoder")):
            x = self._attention(x, None, "encoder_self", layer)
            x = self._feed_forward(x, f"encoder.{layer}")
        memory = self._norm(x, "encoder_norm")
        y = self._embedded("tgt_embedding", tgt_in)
        for layer in range(self._count("decoder")):
            y = self._attention(y, None, "decoder_self", layer)
            y = self._attention(y, memory, "cross", layer)
            y = self._feed_forward(y, f"decoder.{layer}")
        return self.found

    def _count(self, stack: str) -> int:
        return len({name.split(".")[1] for name in self.w if name.startswith(f"{stack}.")})

    def _embedded(self, name: str, ids: list[int]) -> Array:
        table = self.w[f"{name}.token.weight"]
        d_model = table.shape[1]
        positions = np.empty((len(ids), d_model))
        for place in range(len(ids)):
            for column in range(d_model):
                angle = place / 10000 ** ((column - column % 2) / d_model)
                positions[place, column] = math.cos(angle) if column % 2 else math.sin(angle)
        return table[ids] * math.sqrt(d_model) + positions

    def _norm(self, x: Array, name: str) -> Array:
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return scaled * self.w[f"{name}.weight"] + self.w[f"{name}.bias"]

    def _linear(self, x: Array, name: str) -> Array:
        return x @ self.w[f"{name}.weight"].T + self.w.get(f"{name}.bias", 0.0)

    def _feed_forward(self, x: Array, layer: str) -> Array:
        hidden = np.maximum(self._linear(self._norm(x, f"{layer}.feed_forward_norm"), f"{layer}.feed_forward.0"), 0)
        return x + self._linear(hidden, f"{layer}.feed_forward.3")

    def _attention(self, x: Array, memory: Array | None, site: str, layer: int) -> Array:
        part = {"encoder_self": "encoder", "decoder_self": "decoder", "cross": "decoder"}[site]
        kind = "cross" if site == "cross" else "self"
        place = f"{part}.{layer}.{kind}_attention"
        read = self._norm(x, f"{part}.{layer}.{kind}_norm")
        context = read if memory is None else memory
        down, up = (
            ("value_down", "value_up") if f"{place}.value_down.weight" in self.w else ("value_proj", "output_proj")
        )
        q, k, v = (
            self._linear(e, f"{place}.{name}")
            for e, name in ((read, "query_proj"), (context, "key_proj"), (context, down))
        )
        head_dim, rank = q.shape[1] // self.num_heads, v.shape[1] // self.num_heads
        weights, deltas, norms, maps = [], [], [], []
        for head in range(self.num_heads):
            narrow = slice(head * head_dim, (head + 1) * head_dim)
            thin = slice(head * rank, (head + 1) * rank)
            scores = q[:, narrow] @ k[:, narrow].T / math.sqrt(head_dim)
            if site == "decoder_self":
                scores = np.where(np.tri(*scores.shape, dtype=bool), scores, -np.inf)
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            shares /= shares.sum(-1, keepdims=True)
            w_up = self.w[f"{place}.{up}.weight"][:, thin].T
            moved = v[:, thin] @ w_up
            weights.append(shares)
            deltas.append(shares @ moved)
            norms.append([[np.linalg.norm(p * u) for p, u in zip(row, moved, strict=True)] for row in shares])
            maps.append(self.w[f"{place}.{down}.weight"][thin].T @ w_up)
        delta = sum(deltas) + self.w.get(f"{place}.{up}.bias", 0.0)
        self.found[site, layer] = Attended(
            x, delta, np.array(weights), np.array(deltas), np.array(norms), np.array(maps)
        )
        return x + delta


def entropy_rank(matrix: Array) -> float:
    """exp of the entropy of the singular values as shares (Roy & Vetterli 2007)."""
    values = np.linalg.svd(matrix, compute_uv=False)
    shares = values / values.sum()
    return math.exp(-sum(share * math.log(share) for share in shares if share > 0))


def nearest_by_hand(embedding: list[float], table: list[list[float]], count: int) -> list[tuple[int, float]]:
    """(id, cosine) of the nearest rows behind the special ones, in plain loops."""
    found = []
    for index, row in enumerate(table):
        if index >= FIRST_WORD:
            dot = sum(a * b for a, b in zip(embedding, row, strict=True))
            found.append((index, dot / math.sqrt(sum(a * a for a in embedding)) / math.sqrt(sum(b * b for b in row))))
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))[:count]
