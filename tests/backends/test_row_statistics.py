"""Log-sum-exp, greatest score and entropy of each row, beside scipy and torch."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor
from torch.testing import assert_close

from attnframe import Mask
from attnframe.backends import MaskMod, ScoreMod
from attnframe.backends.row_statistics import row_statistics

BATCH, HEADS, KEY_HEADS, QUERIES, KEYS, HEAD_DIM = 2, 6, 3, 5, 7, 11


def nearer(score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return score - 0.3 * (head + 1) * (q_idx - kv_idx).abs()


def hiding(score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return torch.where(kv_idx == 3, -torch.inf, 2 * score)


def no_third_key(batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return kv_idx != 2


def inputs(dtype: torch.dtype, size: float = 1.0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    q = size * torch.randn(BATCH, HEADS, QUERIES, HEAD_DIM, generator=generator)
    return q.to(dtype), torch.randn(BATCH, KEY_HEADS, KEYS, HEAD_DIM, generator=generator).to(dtype)


def mask() -> Mask:
    """Under which the first query of the second sentence may attend to nothing."""
    key_keep = torch.ones(BATCH, KEYS, dtype=torch.bool)
    key_keep[0, 5:] = key_keep[1, 0] = False
    return Mask(key_keep, causal=True, window=3).bind(BATCH, QUERIES, KEYS)


def hidden_scores(
    q: Tensor, k: Tensor, mask: Mask, scale: float, score_mod: ScoreMod | None, mask_mod: MaskMod | None
) -> Tensor:
    """In float64, a loop for each row; -inf where attention is not allowed."""
    keep = mask.dense().expand(-1, HEADS, -1, -1)
    rows = []
    for b in range(BATCH):
        for h in range(HEADS):
            for i in range(QUERIES):
                index = (torch.tensor(b), torch.tensor(h), torch.tensor(i), torch.arange(KEYS))
                scores = k[b, h // (HEADS // KEY_HEADS)].double() @ q[b, h, i].double() * scale
                scores = scores if score_mod is None else score_mod(scores, *index)
                allowed = keep[b, h, i] if mask_mod is None else keep[b, h, i] & mask_mod(*index)
                rows.append(torch.where(allowed, scores, -torch.inf))
    return torch.stack(rows).view(BATCH, HEADS, QUERIES, KEYS)


@pytest.mark.parametrize("size", [1.0, 20.0])
@pytest.mark.parametrize("mask_mod", [None, no_third_key])
@pytest.mark.parametrize("score_mod", [None, nearer, hiding])
def test_single_precision_is_that_of_scipy_and_torch(
    size: float, score_mod: ScoreMod | None, mask_mod: MaskMod | None
) -> None:
    q, k = inputs(torch.float32, size)
    found = row_statistics(q, k, mask(), scale=0.4, score_mod=score_mod, mask_mod=mask_mod)
    scores = hidden_scores(q, k, mask(), 0.4, score_mod, mask_mod)
    assert 1 < scores[scores.isfinite()].abs().max() < 400
    blind = (scores == -torch.inf).all(-1)
    assert blind.any()
    assert not blind.all()
    weights = scores.softmax(-1)[~blind].numpy()
    entropy = np.asarray(scipy.stats.entropy(weights, axis=-1))
    assert_close(found.entropy[~blind].double(), torch.from_numpy(entropy), rtol=0, atol=1e-5)
    lse = torch.logsumexp(scores, -1)[~blind]
    # 4 units in the last place of a large one.
    assert_close(found.lse[~blind].double(), lse, rtol=0, atol=max(1e-5, 4 * 2**-23 * float(lse.abs().max())))
    assert_close(found.max_score.double(), scores.amax(-1), rtol=1e-6, atol=1e-6)
    assert (found.lse[blind] == -torch.inf).all()
    assert (found.max_score[blind] == -torch.inf).all()
    assert (found.entropy[blind] == 0).all()


@pytest.mark.parametrize("score_mod", [None, nearer, hiding])
def test_gradients_are_those_of_the_formula(score_mod: ScoreMod | None) -> None:
    tensors = [x.requires_grad_() for x in inputs(torch.float64)]
    found = row_statistics(*tensors, mask(), scale=0.4, score_mod=score_mod)
    scores = hidden_scores(*tensors, mask(), 0.4, score_mod, None)
    blind = (scores == -torch.inf).all(-1)
    log_weights = scores[~blind].log_softmax(-1)
    # The derivative of p ln p has no limit at p = 0.
    entropy = -(log_weights.exp() * log_weights.masked_fill(log_weights == -torch.inf, 0.0)).sum(-1)
    expected = {"lse": scores[~blind].logsumexp(-1), "entropy": entropy}
    for name, values in expected.items():
        rows = getattr(found, name)
        assert_close(rows[~blind], values, rtol=0, atol=1e-12)
        cotangent = torch.randn(rows.shape, dtype=rows.dtype, generator=torch.Generator().manual_seed(1))
        gradients = torch.autograd.grad(rows.where(~blind, 0.0), tensors, cotangent, retain_graph=True)
        wanted = torch.autograd.grad(values, tensors, cotangent[~blind], retain_graph=True)
        for gradient, other in zip(gradients, wanted, strict=True):
            assert_close(gradient, other, rtol=0, atol=1e-10)


def test_a_row_that_may_attend_to_nothing_sends_no_gradient_even_if_it_is_asked_for_one() -> None:
    tensors = [x.requires_grad_() for x in inputs(torch.float64)]
    nothing = Mask(torch.zeros(BATCH, KEYS, dtype=torch.bool)).bind(BATCH, QUERIES, KEYS)
    found = row_statistics(*tensors, nothing, scale=0.4)
    for rows in (found.lse, found.entropy):
        for gradient in torch.autograd.grad(rows, tensors, torch.ones_like(rows), retain_graph=True):
            assert (gradient == 0).all()


def test_no_keys_at_all() -> None:
    q, k = inputs(torch.float32)
    q.requires_grad_()
    found = row_statistics(q, k[:, :, :0], Mask().bind(BATCH, QUERIES, 0), scale=0.4)
    assert found.lse.shape == found.max_score.shape == found.entropy.shape == (BATCH, HEADS, QUERIES)
    assert (found.lse == -torch.inf).all()
    assert (found.max_score == -torch.inf).all()
    assert (found.entropy == 0).all()
    (gradient,) = torch.autograd.grad(found.entropy.sum(), q)
    assert (gradient == 0).all()


def test_scores_of_ten_thousand_keep_their_entropy() -> None:
    q = torch.tensor([[[[1e4]]]], requires_grad=True)
    k = torch.tensor([[[[1.0], [1.0], [1.0 - 1e-4]]]])
    found = row_statistics(q, k, Mask().bind(1, 1, 3), scale=1.0)
    scores = 1e4 * k[0, 0, :, 0].double()
    expected = torch.special.entr(scores.softmax(-1)).sum()
    # What a score rounded in single precision says: the third is off by up to a thousandth.
    assert_close(found.entropy[0, 0, 0].double(), expected, rtol=0, atol=1e-3)
    (gradient,) = torch.autograd.grad(found.entropy.sum(), q)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_widened_under_autocast_too(dtype: torch.dtype) -> None:
    q, k = inputs(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        found = row_statistics(q, k, mask(), scale=0.4)
    expected = row_statistics(q.float(), k.float(), mask(), scale=0.4)
    for name in ("lse", "max_score", "entropy"):
        assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)
