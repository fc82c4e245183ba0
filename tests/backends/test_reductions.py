"""Reductions of a pattern against the pattern itself, in float64, and against what attention makes of chosen values."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from attnframe import Mask
from attnframe.backends import Backend, Request, chunked_reductions, resolve
from attnframe.backends.reductions import distance_edges, key_reductions, row_reductions

BATCH, HEADS, KEY_HEADS, QUERIES, KEYS, HEAD_DIM = 2, 4, 2, 19, 23, 5
EXACT = {"rtol": 0.0, "atol": 1e-12}
SCALE = 0.7
HOLES = torch.stack([torch.arange(KEYS) % 3 > 0, torch.arange(KEYS) < 7])
MASKS = {
    "everything": Mask(),
    "causal": Mask(causal=True),
    "causal at the end": Mask(causal=True, query_offset=KEYS - QUERIES),
    "before the first key": Mask(causal=True, query_offset=-5),
    "window": Mask(window=4),
    "window out of sight": Mask(window=3, causal=True, query_offset=12),
    "holes": Mask(HOLES),
    "holes, causal, window": Mask(HOLES, causal=True, window=9, query_offset=2),
    "nothing kept in one": Mask(torch.stack([HOLES[0], torch.zeros(KEYS, dtype=torch.bool)])),
}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 7 queries, which no length here is a multiple of."""
    monkeypatch.setattr(chunked_reductions, "_CHUNK", 7 * BATCH * HEADS * KEYS)


def qk(queries: int = QUERIES, keys: int = KEYS) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(37)
    q = torch.randn(BATCH, HEADS, queries, HEAD_DIM, generator=generator, dtype=torch.float64)
    return q, torch.randn(BATCH, KEY_HEADS, keys, HEAD_DIM, generator=generator, dtype=torch.float64)


def farther_is_less(score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return score - (q_idx - kv_idx).abs() * (head + 1) * 2.0**-7


def neighbours_hidden(batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return (kv_idx + q_idx) % 2 == 0


def scores_of(q: Tensor, k: Tensor, mask: Mask, changed: bool = False) -> np.ndarray:
    """[batch, heads, query, key], -inf where hidden, pair by pair."""
    scores = np.einsum("bhid,bhjd->bhij", q.numpy(), np.repeat(k.numpy(), HEADS // KEY_HEADS, axis=1)) * SCALE
    for b, h, i, j in np.ndindex(*scores.shape):
        position = i + mask.query_offset
        if changed:
            scores[b, h, i, j] -= abs(position - j) * (h + 1) * 2.0**-7
        hidden = (
            (mask.causal and j > position)
            or (mask.window is not None and abs(j - position) > mask.window)
            or (mask.key_keep is not None and not mask.key_keep[b, j])
            or (changed and (position + j) % 2)
        )
        scores[b, h, i, j] = -np.inf if hidden else scores[b, h, i, j]
    return scores


def softmax(scores: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(scipy.special.softmax(scores, axis=-1))


def bound(mask: Mask, queries: int = QUERIES, keys: int = KEYS) -> Mask:
    return mask.bind(BATCH, queries, keys)


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_rows_are_those_of_the_pattern(name: str, changed: bool) -> None:
    (q, k), mask = qk(), MASKS[name]
    mods = {"score_mod": farther_is_less, "mask_mod": neighbours_hidden} if changed else {}
    rows = row_reductions(q, k, bound(mask), scale=SCALE, **mods)
    scores = scores_of(q, k, mask, changed)
    weights = softmax(scores)
    blind = np.isneginf(scores).all(-1)
    key = np.arange(KEYS)
    away = abs(np.arange(QUERIES)[:, None] + mask.query_offset - key)
    expected = {
        "lse": scipy.special.logsumexp(scores, axis=-1),
        "entropy": scipy.stats.entropy(np.where(blind[..., None], 1.0, weights), axis=-1) * ~blind,
        "largest_weight": weights.max(-1),
        "argmax": np.where(blind, -1, weights.argmax(-1)),
        "mean_position": np.where(blind, np.nan, (weights * key).sum(-1)),
        "mean_distance": np.where(blind, np.nan, (weights * away).sum(-1)),
    }
    if name in ("before the first key", "window out of sight", "nothing kept in one"):
        assert blind.any()
    for quantity, values in expected.items():
        assert_close(getattr(rows, quantity), torch.from_numpy(values), equal_nan=True, **EXACT)


@pytest.mark.parametrize(("block", "changed"), [(3, False), (8, True), (100, False)])
@pytest.mark.parametrize("name", MASKS)
def test_keys_are_those_of_the_pattern(name: str, changed: bool, block: int) -> None:
    (q, k), mask = qk(), MASKS[name]
    mods = {"score_mod": farther_is_less, "mask_mod": neighbours_hidden} if changed else {}
    query_keep = torch.stack([torch.arange(QUERIES) % 4 != 2, torch.arange(QUERIES) < 13])
    lse = row_reductions(q, k, bound(mask), scale=SCALE, **mods).lse
    edges = [-9, -1, 0, 3, 17]
    found = key_reductions(
        q, k, lse, bound(mask), scale=SCALE, query_keep=query_keep, block=block, edges=edges, sinks=2, **mods
    )
    weights = softmax(scores_of(q, k, mask, changed)) * query_keep.numpy()[:, None, :, None]
    counted = weights.sum(-1) > 0
    assert_close(found.rows, torch.from_numpy(counted.sum(-1)))
    assert_close(found.received, torch.from_numpy(weights.sum(2)), **EXACT)
    pooled, profile, sink = pooled_slowly(weights, counted, block, edges, mask)
    assert found.pooled_map is not None
    assert found.distance_profile is not None
    assert_close(found.pooled_map, pooled, **EXACT)
    assert_close(found.distance_profile, profile, **EXACT)
    assert_close(found.sink_mass, sink, **EXACT)
    of_block = found.pooled_map.sum(-1)
    assert_close(of_block, (of_block > 0.5).double(), **EXACT)


def pooled_slowly(
    weights: np.ndarray, counted: np.ndarray, block: int, edges: list[int], mask: Mask
) -> tuple[Tensor, Tensor, Tensor]:
    """(pooled map, distance profile, mass on the first two kept keys), weight by weight."""
    batch, heads, queries, keys = weights.shape
    pooled = np.zeros((batch, heads, math.ceil(queries / block), math.ceil(keys / block)))
    profile, sink = np.zeros((batch, heads, len(edges) + 1)), np.zeros((batch, heads))
    for b, h, i, j in np.ndindex(*weights.shape):
        rows = counted[b, h, i // block * block : i // block * block + block].sum()
        share = weights[b, h, i, j] / max(counted[b, h].sum(), 1)
        pooled[b, h, i // block, j // block] += weights[b, h, i, j] / max(rows, 1)
        bucket = sum(edge < j - i - mask.query_offset for edge in edges)
        profile[b, h, bucket] += share
        kept = range(keys) if mask.key_keep is None else np.flatnonzero(mask.key_keep[b])
        sink[b, h] += share * (j in list(kept)[:2])
    return torch.from_numpy(pooled), torch.from_numpy(profile), torch.from_numpy(sink)


IDENTITIES = ["causal at the end", "holes", "window out of sight"]
REST: dict[str, Any] = {"scale": SCALE, "dropout": 0.0, "score_mod": None, "mask_mod": None, "normaliser": None}


NEAR = {"rtol": 1e-5, "atol": 2e-5}


def setting(name: str, backend_name: str, device: torch.device, trains: bool) -> tuple[Backend, Tensor, Tensor, Mask]:
    """(backend, q, k, mask) on the device; raises `BackendError` where that backend declines."""
    request = Request(device.type, torch.float32, HEADS, KEY_HEADS, HEAD_DIM, HEAD_DIM, trains=trains)
    backend = resolve(backend_name, [request]).backend
    q, k = (x.to(device, torch.float32) for x in qk())
    keep = MASKS[name].key_keep
    mask = dataclasses.replace(MASKS[name], key_keep=None if keep is None else keep.to(device))
    return backend, q, k, mask.bind(BATCH, QUERIES, KEYS, device)


@pytest.mark.parametrize("name", IDENTITIES)
def test_the_pooled_map_is_attention_to_values_that_name_their_block(
    name: str, backend_name: str, device: torch.device
) -> None:
    backend, q, k, mask = setting(name, backend_name, device, trains=False)
    lse = row_reductions(q, k, mask, scale=SCALE).lse
    found = key_reductions(q, k, lse, mask, scale=SCALE, block=8).pooled_map
    # As wide as in the other tests, for which flex has compiled.
    of_block = torch.nn.functional.one_hot(torch.arange(KEYS, device=device) // 8, HEAD_DIM).float()
    by_row = backend.attend(q, k, of_block.expand(BATCH, KEY_HEADS, -1, -1).contiguous(), mask, **REST)
    sums = torch.stack([part.sum(2) for part in by_row.split(8, dim=2)], 2)
    rows = torch.stack([(part != -torch.inf).sum(2) for part in lse.split(8, dim=2)], 2)
    assert_close(found, (sums / rows.clamp(min=1)[..., None])[..., : math.ceil(KEYS / 8)], **NEAR)


@pytest.mark.parametrize("name", IDENTITIES)
def test_the_entropy_is_lse_less_the_score_of_what_the_keys_as_values_give(
    name: str, backend_name: str, device: torch.device
) -> None:
    backend, q, k, mask = setting(name, backend_name, device, trains=False)
    rows = row_reductions(q, k, mask, scale=SCALE)
    counted = rows.lse != -torch.inf
    expected = rows.lse - SCALE * (q * backend.attend(q, k, k, mask, **REST)).sum(-1)
    assert_close(rows.entropy[counted], expected[counted], **NEAR)


@pytest.mark.parametrize("name", IDENTITIES)
def test_what_a_key_receives_is_the_gradient_of_the_summed_output(
    name: str, backend_name: str, device: torch.device
) -> None:
    backend, q, k, mask = setting(name, backend_name, device, trains=True)
    lse = row_reductions(q, k, mask, scale=SCALE).lse
    v = torch.ones(BATCH, KEY_HEADS, KEYS, HEAD_DIM, device=device, requires_grad=True)
    (d_v,) = torch.autograd.grad(backend.attend(q, k, v, mask, **REST).sum(), v)
    received = key_reductions(q, k, lse, mask, scale=SCALE).received
    # A key head is given what all query heads that share it give.
    assert_close(received.unflatten(1, (KEY_HEADS, -1)).sum(2), d_v[..., 0], **NEAR)


def test_of_equal_weights_the_first_key_is_the_greatest() -> None:
    q, k = qk()
    mask = bound(Mask(HOLES, window=3))
    argmax = row_reductions(torch.zeros_like(q), k, mask).argmax
    dense = mask.dense()[:, 0]
    first = torch.where(dense.any(-1), dense.int().argmax(-1), -1)
    assert (first == -1).any()
    assert torch.equal(argmax, first[:, None].expand_as(argmax))


@pytest.mark.parametrize(("queries", "keys"), [(0, 5), (5, 0)])
def test_without_queries_or_keys(queries: int, keys: int) -> None:
    q, k = qk(queries, keys)
    mask = Mask().bind(BATCH, queries, keys)
    rows = row_reductions(q, k, mask)
    assert rows.lse.shape == (BATCH, HEADS, queries)
    assert (rows.lse == -torch.inf).all()
    assert (rows.argmax == -1).all()
    assert rows.mean_position.isnan().all()
    found = key_reductions(q, k, rows.lse, mask, block=4, edges=[0])
    assert found.pooled_map is not None
    assert found.pooled_map.shape == (BATCH, HEADS, math.ceil(queries / 4), math.ceil(keys / 4))
    assert found.received.shape == (BATCH, HEADS, keys)
    assert not found.received.any()
    assert not found.sink_mass.any()


class _Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that anything returns."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in torch.utils._pytree.tree_leaves(result):
            if isinstance(x, Tensor):
                self.elements = max(self.elements, x.numel())
        return result


def test_no_query_key_matrix_is_ever_held(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, keys = 397, 409
    monkeypatch.setattr(chunked_reductions, "_CHUNK", 3 * keys)
    q, k, key_keep = torch.randn(1, 1, queries, 3), torch.randn(1, 1, keys, 3), torch.arange(keys)[None] < 400
    with _Largest() as largest:
        mask = Mask(key_keep, causal=True, window=200).bind(1, queries, keys)
        rows = row_reductions(q, k, mask)
        key_reductions(q, k, rows.lse, mask, block=64, edges=distance_edges(queries))
        assert keys <= largest.elements <= 4 * keys
        mask.dense()
        assert largest.elements >= queries * keys, "then a matrix would have been seen"


def test_half_precision_is_summed_in_float32_and_nothing_has_a_gradient() -> None:
    q, k = (x.half().requires_grad_() for x in qk())
    mask = bound(Mask(causal=True))
    rows = row_reductions(q, k, mask)
    assert rows.entropy.dtype == torch.float32
    assert not rows.entropy.requires_grad
    wide = row_reductions(q.detach().double(), k.detach().double(), mask)
    assert_close(rows.entropy.double(), wide.entropy, rtol=0, atol=1e-5)


def test_buckets_of_distances_double() -> None:
    assert distance_edges(7) == [-4, -2, -1, 0, 1, 3]
    assert distance_edges(0) == [-1, 0]
    edges = distance_edges(1000)
    assert [
        sum(edge < distance for edge in edges) - edges.index(0) for distance in (0, 1, 2, 3, 4, 7, 8, -1, -2, -3)
    ] == [
        *(0, 1, 2, 2, 3, 3, 4),
        *(-1, -2, -2),
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"block": 0}, "block=0"),
        ({"edges": [0, 0, 1]}, "must ascend"),
        ({"query_keep": torch.ones(BATCH, QUERIES + 1, dtype=torch.bool)}, "query_keep is"),
        ({"lse": torch.zeros(BATCH, HEADS, QUERIES + 1)}, "lse is"),
        ({"mask": Mask().bind(BATCH, QUERIES, KEYS + 1)}, "the mask is for"),
        ({"k": torch.zeros(BATCH, 3, KEYS, HEAD_DIM)}, "divide the heads"),
    ],
)
def test_what_does_not_fit_together_is_refused(change: dict[str, Any], says: str) -> None:
    q, k = qk()
    arguments = {"k": k, "lse": torch.zeros(BATCH, HEADS, QUERIES), "mask": bound(Mask()), **change}
    with pytest.raises(ValueError, match=says):
        key_reductions(q, **arguments)


def test_positions_of_another_length_are_refused() -> None:
    q, k = qk()
    with pytest.raises(ValueError, match="key_position is"):
        row_reductions(q, k, bound(Mask()), key_position=torch.zeros(BATCH, QUERIES))
