from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from linear_in_heads import is_linear_in_heads
from torch import Tensor, nn

from attnframe import Attention, Mask, record_patterns, register_attention, split_heads
from attnframe.patterns.anatomy import matrix_rank, record_anatomy
from attnframe.patterns.head_maps import value_maps

QUERIES, KEYS, D_MODEL, HEADS = 5, 7, 12, 4


def register_shared_keys() -> None:
    @register_attention("shared_keys")
    class SharedKeys(Attention):
        """softmax(0.3·Q_h·K_gᵀ)·V_g: two heads share keys and values."""

        def __init__(self, d_model: int, num_heads: int, *, biased: bool = False) -> None:
            super().__init__()
            self.biased = biased
            self.query_proj = nn.Linear(d_model, d_model)
            self.context_proj = nn.Linear(d_model, d_model)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            k, v = split_heads(self.context_proj(key), HEADS).chunk(2, dim=1)
            q = split_heads(self.query_proj(query), HEADS)
            nearer = (lambda score, batch, head, i, j: score - (i - j).abs()) if self.biased else None
            return self.attend(q, k, v, mask, scale=0.3, score_mod=nearer).transpose(1, 2).flatten(2)


def anatomy_of(module: Attention, mask: Mask | None = None, *, loud: float = 1.0) -> tuple:
    torch.manual_seed(2)
    query, context = torch.randn(1, QUERIES, D_MODEL).double() * loud, torch.randn(1, KEYS, D_MODEL).double() * loud
    with record_patterns(module) as patterns, record_anatomy(module) as found:
        output = module(query, context, context, mask)
    return found["", 0], patterns["", 0].weights[0], output


@pytest.mark.parametrize("mask", [None, Mask(window=2), Mask(causal=True)], ids=["open", "window", "causal"])
@pytest.mark.parametrize("backend", ["eager", "sdpa"])
def test_each_cell_leads_to_its_weight(build: Callable[..., Attention], mask: Mask | None, backend: str) -> None:
    register_shared_keys()
    anatomy, weights, _ = anatomy_of(build("shared_keys", d_model=D_MODEL, num_heads=HEADS, backend=backend), mask)
    assert anatomy.is_plain
    q, k = anatomy.calls[0].q[0].detach(), anatomy.calls[0].k[0].detach()
    assert k.shape[0] == 2
    for head in range(HEADS):
        for query in range(QUERIES):
            products = [
                sum(a * b for a, b in zip(q[head, query], k[head // 2, key], strict=True)) for key in range(KEYS)
            ]
            seen = [key for key in range(KEYS) if weights[head, query, key] > 0]
            for key in seen:
                cell = anatomy.worked_cell(head, query, key)
                assert (cell.query, cell.key) == (query, key)
                assert cell.product == pytest.approx(float(products[key]))
                assert cell.score == pytest.approx(0.3 * float(products[key]))
                assert cell.normaliser == pytest.approx(sum(math.exp(0.3 * products[other]) for other in seen))
                assert cell.weight == pytest.approx(float(weights[head, query, key]), abs=1e-12)


def test_scores_beyond_a_float_have_no_normaliser(build: Callable[..., Attention]) -> None:
    register_shared_keys()
    anatomy, weights, _ = anatomy_of(build("shared_keys", d_model=D_MODEL, num_heads=HEADS), loud=1e3)
    head, query, key = (int(index) for index in torch.unravel_index(weights.argmax(), weights.shape))
    cell = anatomy.worked_cell(head, query, key)
    assert cell.normaliser == math.inf
    assert cell.weight == pytest.approx(1.0)


def test_what_changes_scores_is_not_plain(build: Callable[..., Attention]) -> None:
    register_shared_keys()
    anatomy, _, _ = anatomy_of(build("shared_keys", d_model=D_MODEL, num_heads=HEADS, biased=True))
    assert len(anatomy.calls) == 1
    assert not anatomy.is_plain


@pytest.mark.of_attend
def test_the_heads_deltas_and_the_bias_are_the_output(variant_name: str, build: Callable[..., Attention]) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS)
    if not is_linear_in_heads(module, D_MODEL):
        pytest.skip("its heads' outputs go through no one linear map")
    anatomy, weights, output = anatomy_of(module)
    deltas = anatomy.head_deltas()
    assert deltas is not None
    assert deltas.shape == (1, weights.shape[0], QUERIES, D_MODEL)
    bias = output - deltas.sum(1)
    torch.testing.assert_close(bias, bias[:, :1].expand_as(bias), rtol=0, atol=1e-10)
    ranks = anatomy.value_ranks()
    assert (ranks is None) is (value_maps(module, d_model=D_MODEL, d_context=D_MODEL) is None)
    if ranks is None:
        return
    assert len(ranks) == weights.shape[0]
    assert all(1 <= rank <= D_MODEL for rank in ranks)


def test_the_latest_pass_stays_and_each_begins_anew(build: Callable[..., Attention]) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS)
    x = torch.randn(1, 3, D_MODEL, dtype=torch.float64)
    with record_anatomy(module) as found:
        module(x, x, x)
        module(x[:, :2], x, x)
    (call,) = found["", 0].calls
    assert call.q.shape[2] == 2
    assert not module._observers


def test_the_rank_of_a_matrix() -> None:
    assert matrix_rank(torch.eye(7)[:5]) == pytest.approx(5, abs=1e-5)
    assert matrix_rank(torch.ones(5, 7)) == pytest.approx(1, abs=1e-5)
    assert math.isnan(matrix_rank(torch.zeros(5, 7)))
    assert math.isnan(matrix_rank(torch.full((5, 7), math.nan)))
