"""The functions that variants call."""

from __future__ import annotations

import math

import pytest
import torch
from torch.testing import assert_close

from attnframe import UserError, masked_softmax, merge_heads, split_heads
from attnframe.attention.functional import divide_into_heads


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
