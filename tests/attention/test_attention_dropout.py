"""Dropout on the attention weights: done by `attend`, whatever the constructor names."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from linear_in_heads import is_proportional_to_heads
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, Mask, build_attention, register_attention, split_heads

D_MODEL, HEADS, RATE = 6, 2, 0.3


def test_training_changes_the_output_and_evaluation_does_not(
    variant_name: str, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, dropout=RATE, backend=backend_name)
    plain = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    x = torch.randn(2, 5, D_MODEL, dtype=torch.float64, device=device)
    module.train()
    assert not torch.equal(module(x, x, x), module(x, x, x))
    module.eval()
    assert_close(module(x, x, x), module(x, x, x), rtol=0, atol=0)
    assert_close(module(x, x, x), plain(x, x, x), rtol=0, atol=0)


def test_the_mean_is_kept(
    variant_name: str, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    samples = 8009
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, dropout=RATE, backend=backend_name)
    if not is_proportional_to_heads(module.eval(), D_MODEL):
        pytest.skip(f"{variant_name} normalises what its heads say, so the mean of outputs is no output of the mean")
    x = torch.randn(1, 5, D_MODEL, dtype=torch.float64, device=device).expand(samples, -1, -1)
    expected = module.eval()(x[:1], x[:1], x[:1])[0]
    many = module.train()(x, x, x)
    off_by = (many.mean(0) - expected) / (many.std(0) / samples**0.5)
    assert off_by.abs().max() < 5  # standard errors
    assert many.std(0).min() > 0


@pytest.mark.parametrize("named", [True, False])
def test_naming_dropout_makes_no_difference(named: bool, device: torch.device) -> None:
    given: list[float] = []

    class Plain(Attention):
        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            return self.attend(*(split_heads(x, 1) for x in (query, key, value)), mask).squeeze(1)

    class Named(Plain):
        def __init__(self, dropout: float) -> None:
            super().__init__()
            given.append(dropout)

    register_attention("thrown_away")(Named if named else Plain)
    module = build_attention("thrown_away", d_model=D_MODEL, num_heads=HEADS, dropout=RATE)
    assert given == ([RATE] if named else [])
    x = torch.randn(2, 5, D_MODEL, device=device)
    torch.manual_seed(2)
    first = module(x, x, x)
    torch.manual_seed(2)
    assert_close(module(x, x, x), first, rtol=0, atol=0)
    assert not torch.equal(module.eval()(x, x, x), first)
