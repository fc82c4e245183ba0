"""The functions that variants call."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from attnframe import Mask, UserError, masked_softmax, merge_heads, split_heads
from attnframe.attention import linear_attention, linear_attention_weights
from attnframe.attention.functional import divide_into_heads

BATCH, HEADS, FEATURES, VALUE_DIM = 2, 3, 5, 7


def test_split_heads_cuts_consecutive_pieces() -> None:
    x = torch.arange(2 * 3 * 10).reshape(2, 3, 10)
    heads = split_heads(x, 5)
    assert heads.shape == (2, 5, 3, 2)
    for head in range(5):
        assert_close(heads[:, head], x[:, :, 2 * head : 2 * head + 2], rtol=0, atol=0)


@pytest.mark.parametrize("num_heads", [1, 2, 3, 6])
def test_merge_heads_is_the_inverse(num_heads: int) -> None:
    x = torch.randn(2, 5, 6)
    assert_close(merge_heads(split_heads(x, num_heads)), x, rtol=0, atol=0)
    heads = torch.randn(2, num_heads, 5, 7)
    assert_close(split_heads(merge_heads(heads), num_heads), heads, rtol=0, atol=0)


def test_masked_softmax_by_hand() -> None:
    scores = torch.tensor([[math.log(2.0), math.log(6.0), 700.0], [1.0, 1.0, 1.0], [5.0, 6.0, 7.0]])
    keep = torch.tensor([[True, True, False], [True, True, True], [False, False, False]])
    expected = torch.tensor([[0.25, 0.75, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.0, 0.0, 0.0]])
    assert_close(masked_softmax(scores, keep), expected, rtol=0, atol=1e-6)


def test_masked_softmax_sends_finite_gradients_and_none_where_nothing_is_kept() -> None:
    scores = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    keep = torch.tensor([[[True] * 4 + [False], [False] * 5, [True] + [False] * 4]])
    (gradient,) = torch.autograd.grad((masked_softmax(scores, keep) * torch.arange(5.0)).sum(), [scores])
    assert gradient.isfinite().all()
    assert_close(gradient[:, 1], torch.zeros(2, 5, dtype=torch.float64), rtol=0, atol=0)
    assert_close(gradient[:, 0, 4], torch.zeros(2, dtype=torch.float64), rtol=0, atol=0)
    assert gradient[:, 0, :4].abs().min() > 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_masked_softmax_bears_great_scores(dtype: torch.dtype) -> None:
    scores = torch.tensor([[1e4, -1e4, 1e4]], dtype=dtype)
    weights = masked_softmax(scores, torch.tensor([[True, True, True]]))
    assert_close(weights, torch.tensor([[0.5, 0.0, 0.5]], dtype=dtype), rtol=0, atol=0)


def test_a_number_of_heads_that_does_not_divide_is_refused_with_those_that_do() -> None:
    assert divide_into_heads(12, 3) == 4
    for num_heads in (5, 0, -2):
        with pytest.raises(UserError, match=rf"num_heads={num_heads} does not divide d_model=12; .* 1, 2, 3, 4, 6, 12"):
            divide_into_heads(12, num_heads)


def features(queries: int, keys: int) -> list[torch.Tensor]:
    """Of queries and keys, a quarter of them 0, and values."""
    torch.manual_seed(queries + 1000 * keys)
    q = (torch.rand(BATCH, HEADS, queries, FEATURES, dtype=torch.float64) - 0.25).clamp(min=0)
    k = (torch.rand(BATCH, HEADS, keys, FEATURES, dtype=torch.float64) - 0.25).clamp(min=0)
    return [q, k, torch.randn(BATCH, HEADS, keys, VALUE_DIM, dtype=torch.float64)]


# (queries, keys, position of the first query): within a chunk, over several, behind the last key, before all keys end.
LENGTHS = [(5, 7, 0), (5, 7, 2), (131, 131, 0), (67, 149, 61), (3, 149, 146), (71, 131, 127), (7, 5, 64), (1, 71, 66)]


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize(("queries", "keys", "offset"), LENGTHS)
def test_linear_attention_is_its_weights_times_the_values(
    queries: int, keys: int, offset: int, causal: bool, padded: bool
) -> None:
    q, k, v = (x.requires_grad_() for x in features(queries, keys))
    keep = torch.arange(keys) < torch.tensor([[keys - 2], [1]]) if padded else None
    mask = Mask(key_keep=keep, causal=causal, query_offset=offset).bind(BATCH, queries, keys)
    products = torch.einsum("bhqf,bhkf->bhqk", q, k)
    kv_idx, q_idx = torch.arange(keys), torch.arange(queries)[:, None] + offset
    if causal:
        products = products * (kv_idx <= q_idx)
    if keep is not None:
        products = products * keep[:, None, None]
    sums = products.sum(-1, keepdim=True)
    weights = torch.where(sums > 0, products / torch.where(sums > 0, sums, 1.0), 0.0)
    output = linear_attention(q, k, v, mask)
    assert_close(linear_attention_weights(q, k, mask), weights, rtol=0, atol=1e-12)
    assert_close(output, weights @ v, rtol=0, atol=1e-12)
    cotangent = torch.randn_like(output)
    for one, other in zip(
        torch.autograd.grad(output, [q, k, v], cotangent),
        torch.autograd.grad(weights @ v, [q, k, v], cotangent),
        strict=True,
    ):
        assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_linear_attention_holds_no_matrix_of_queries_and_keys() -> None:
    """The largest tensor of a causal call grows as its length does."""
    largest = []
    for length in (512, 1024):
        sizes = _Sizes()
        with sizes:
            linear_attention(*features(length, length), Mask(causal=True).bind(BATCH, length, length))
        largest.append(sizes.largest)
    assert largest[1] <= 2 * largest[0]
    assert largest[1] < BATCH * HEADS * 1024 * 1024 / 8


class _Sizes(TorchDispatchMode):
    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.largest = max(self.largest, result.numel())
        return result


def test_linear_attention_knows_nothing_of_later_keys() -> None:
    """Not even by a rounding error: the sums do not hold them."""
    q, k, v = features(131, 131)
    mask = Mask(causal=True).bind(BATCH, 131, 131)
    output = linear_attention(q, k, v, mask)
    for j in (1, 63, 64, 65, 130):
        other_k, other_v = k.clone(), v.clone()
        other_k[:, :, j:] *= 1e9
        other_v[:, :, j:] *= -1e9
        assert torch.equal(linear_attention(q, other_k, other_v, mask)[:, :, :j], output[:, :, :j])


def test_features_without_anything_in_common_give_zeros_and_finite_gradients() -> None:
    q = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 3.0]], dtype=torch.float64)[None, None].requires_grad_()
    k = torch.tensor([[0.0, 2.0], [0.0, 4.0]], dtype=torch.float64)[None, None].requires_grad_()
    v = torch.tensor([[3.0], [6.0]], dtype=torch.float64)[None, None].requires_grad_()
    output = linear_attention(q, k, v, Mask().bind(1, 3, 2))
    assert_close(output.flatten(), torch.tensor([0.0, 0.0, 5.0], dtype=torch.float64), rtol=0, atol=1e-12)
    output.sum().backward()
    for tensor in (q, k, v):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_linear_attention_drops_keys_for_all_queries_at_once_and_keeps_the_mean() -> None:
    samples, rate = 4001, 0.3
    q, k, _ = (x[:1].expand(samples, -1, -1, -1) for x in features(5, 7))
    mask = Mask().bind(samples, 5, 7)
    one_hot = torch.eye(7, dtype=torch.float64).expand(samples, HEADS, -1, -1)
    torch.manual_seed(3)
    dropped = linear_attention(q, k, one_hot, mask, dropout=rate)
    kept = dropped > 0
    weights = linear_attention_weights(q[:1], k[:1], mask.bind(1, 5, 7))
    expected = torch.where(kept, weights / (1 - rate), 0.0)
    assert_close(dropped, expected, rtol=0, atol=1e-12)
    seen = (weights > 0).expand_as(kept)
    assert (kept == (kept.any(2, keepdim=True) & seen)).all()
    off_by = (dropped.mean(0) - weights[0]) / (dropped.std(0) / samples**0.5).clamp(min=1e-12)
    assert off_by.abs().max() < 5  # standard errors


def test_linear_attention_refuses_a_window() -> None:
    with pytest.raises(UserError, match=r"linear attention has no window \(here window=3\)"):
        linear_attention(*features(5, 7), Mask(window=3).bind(BATCH, 5, 7))
