"""The mask: what it means, and when it refuses."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

from attnframe import Attention, Mask

BATCH, QUERIES, KEYS = 3, 5, 7


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [None, 0, 2, 100])
@pytest.mark.parametrize("query_offset", [0, 2, 11])
def test_dense_says_who_may_attend(
    padded: bool, causal: bool, window: int | None, query_offset: int, device: torch.device
) -> None:
    lengths = (4, 0, KEYS) if padded else (KEYS,) * BATCH
    keep = torch.tensor([[j < n for j in range(KEYS)] for n in lengths], device=device) if padded else None
    mask = Mask(keep, causal, window, query_offset).bind(BATCH, QUERIES, KEYS, device)
    dense = mask.dense()
    assert dense.dtype == torch.bool
    assert dense.shape == (BATCH, 1, QUERIES, KEYS)
    assert dense.device.type == device.type
    for b, i, j in itertools.product(range(BATCH), range(QUERIES), range(KEYS)):
        position = i + query_offset
        expected = (
            j < lengths[b]
            and not (causal and j > position)
            and (window is None or j in range(position - window, position + window + 1))
        )
        assert bool(dense[b, 0, i, j]) is expected, (b, i, j)


def test_by_hand() -> None:
    keep = torch.tensor([[True, True, False]])
    dense = Mask(keep, causal=True, query_offset=1).bind(1, 2, 3).dense()
    assert dense.tolist() == [[[[True, True, False], [True, True, False]]]]
    assert Mask(causal=True).bind(1, 2, 3).dense().tolist() == [[[[True, False, False], [True, True, False]]]]


def test_the_batch_axis_is_real_memory() -> None:
    dense = Mask(causal=True).bind(BATCH, QUERIES, KEYS).dense()
    dense[0] = False
    assert dense[1].any()
    assert dense.stride(0) == QUERIES * KEYS


def test_dense_is_built_once_and_shared() -> None:
    mask = Mask(causal=True).bind(BATCH, QUERIES, KEYS)
    assert mask.dense() is mask.dense()
    assert mask.bind(BATCH, QUERIES, KEYS) is mask


def test_a_changed_mask_does_not_keep_the_old_matrix() -> None:
    mask = Mask(causal=True).bind(BATCH, QUERIES, KEYS)
    before = mask.dense()
    narrow = dataclasses.replace(mask, window=1)
    expected = [[i - 1 <= j <= i for j in range(KEYS)] for i in range(QUERIES)]
    assert narrow.dense()[0, 0].tolist() == expected
    assert_close(mask.dense(), before, rtol=0, atol=0)


def test_binding_again_takes_the_new_lengths() -> None:
    mask = Mask(causal=True).bind(BATCH, QUERIES, KEYS)
    assert mask.bind(2, 3, 11).shape == (2, 3, 11)
    assert mask.bind(2, 3, 11).dense().shape == (2, 1, 3, 11)
    assert mask.shape == (BATCH, QUERIES, KEYS)


def test_an_unbound_mask_has_no_shape() -> None:
    for ask in (lambda: Mask().shape, Mask(causal=True).dense):
        with pytest.raises(ValueError, match=r"not bound to lengths: call mask\.bind\(batch, query, key\)"):
            ask()


@pytest.mark.parametrize("shape", [(BATCH, KEYS + 1), (BATCH + 1, KEYS), (KEYS, BATCH), (BATCH, 1, KEYS)])
def test_key_keep_of_another_size_is_refused(shape: tuple[int, ...]) -> None:
    mask = Mask(key_keep=torch.ones(shape, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"key_keep has shape .*the call needs \(3, 7\)"):
        mask.bind(BATCH, QUERIES, KEYS)


def test_no_keys() -> None:
    assert Mask(causal=True).bind(BATCH, QUERIES, 0).dense().shape == (BATCH, 1, QUERIES, 0)


def test_the_call_of_a_module_binds(build: Callable[..., Attention], device: torch.device, variant_name: str) -> None:
    module = build(variant_name, d_model=6, num_heads=2)
    query = torch.randn(BATCH, QUERIES, 6, dtype=torch.float64, device=device)
    context = torch.randn(BATCH, KEYS, 6, dtype=torch.float64, device=device)
    seen: list[Mask] = []
    module.register_forward_pre_hook(lambda _, arguments: seen.append(arguments[3]))
    module(query, context, context, Mask(query_offset=2))
    module(query, context, context)
    assert [mask.shape for mask in seen] == [(BATCH, QUERIES, KEYS)] * 2
    assert seen[0].query_offset == 2
    assert bool(seen[1].dense().all())
