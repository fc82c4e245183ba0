"""Performer: its estimate of softmax attention is unbiased, and as good as its number of features."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention, record_patterns

BATCH, LENGTH, D_MODEL, HEADS = 3, 7, 22, 2
HEAD_DIM = D_MODEL // HEADS
MASKS = {
    "open": Mask(),
    "causal": Mask(causal=True),
    "padded": Mask(key_keep=torch.arange(LENGTH) < torch.tensor([[4], [LENGTH], [1]])),
}


def embeddings() -> Tensor:
    torch.manual_seed(11)
    return torch.randn(BATCH, LENGTH, D_MODEL, dtype=torch.float64)


def with_new_directions(module: Attention, num_features: int, seed: int) -> None:
    torch.manual_seed(seed)
    other = build_attention("performer", d_model=D_MODEL, num_heads=HEADS, num_features=num_features)
    module.directions = other.directions.double()


@pytest.mark.parametrize("kind", MASKS)
def test_the_error_of_its_estimate_falls_as_one_over_the_root_of_the_features(
    kind: str, build: Callable[..., Attention]
) -> None:
    module, exact = (build(name, d_model=D_MODEL, num_heads=HEADS) for name in ("performer", "multi_head"))
    # The estimate of e^s has a variance that grows as e^(|q + k|²/√d_k): small ones reach the limit with few features.
    with torch.no_grad():
        for parameter in (*module.query_proj.parameters(), *module.key_proj.parameters()):
            parameter.mul_(0.15)
    exact.load_state_dict({name: x for name, x in module.state_dict().items() if name != "directions"})
    x, mask = embeddings(), MASKS[kind]
    expected = exact(x, x, x, mask)
    errors = []
    for num_features in (64, 1024, 16384):
        squares = []
        for seed in range(16):
            with_new_directions(module, num_features, seed)
            squares.append((module(x, x, x, mask) - expected).square().mean())
        errors.append(torch.stack(squares).mean().sqrt().item())
    for one, other in itertools.pairwise(errors):
        assert one / other == pytest.approx(4.0, rel=0.2)
    assert errors[-1] < 0.01 * expected.std()


def test_products_of_features_are_unbiased(build: Callable[..., Attention]) -> None:
    """E[φ(q)·φ(k)] = e^(q·k/√d_k), over draws of the directions."""
    module = build("performer", d_model=D_MODEL, num_heads=HEADS)
    torch.manual_seed(3)
    q, k = 0.7 * torch.randn(2, 1, HEADS, LENGTH, HEAD_DIM, dtype=torch.float64)
    estimates = []
    for seed in range(300):
        with_new_directions(module, 13, seed)
        estimates.append(module._exponents(q).exp() @ module._exponents(k).exp().mT / 13)
    found = torch.stack(estimates)
    off_by = (found.mean(0) - (q @ k.mT / HEAD_DIM**0.5).exp()) / (found.std(0) / 300**0.5)
    assert off_by.abs().max() < 5  # standard errors


def test_directions_are_orthogonal_and_as_long_as_normal_vectors() -> None:
    torch.manual_seed(0)
    module = build_attention("performer", d_model=6 * 101, num_heads=6, num_features=250)
    directions = module.directions
    assert directions.shape == (6, 250, 101)
    for start in (0, 101, 202):
        block = directions[:, start : start + 101]
        angles = block @ block.mT / (block.norm(dim=-1)[:, :, None] * block.norm(dim=-1)[:, None])
        assert_close(angles, torch.eye(block.shape[1]).expand_as(angles), rtol=0, atol=1e-5)
    # The mean square of a chi variable with 101 degrees of freedom is 101, its variance 202.
    off_by = (directions.square().sum(-1).mean() - 101) / math.sqrt(202 / (6 * 250))
    assert abs(off_by) < 4
    assert abs(directions.mean() * math.sqrt(directions.numel())) < 4


def test_its_pattern_is_its_output(build: Callable[..., Attention]) -> None:
    module, x = build("performer", d_model=D_MODEL, num_heads=HEADS), embeddings()
    for mask in MASKS.values():
        with record_patterns(module) as patterns:
            output = module(x, x, x, mask)
        v = module.value_proj(x).unflatten(-1, (HEADS, -1)).transpose(1, 2)
        heads = (patterns["", 0].weights @ v).transpose(1, 2).flatten(-2)
        assert_close(output, module.output_proj(heads), rtol=0, atol=1e-12)


def test_its_directions_belong_to_a_checkpoint() -> None:
    torch.manual_seed(1)
    one = build_attention("performer", d_model=D_MODEL, num_heads=HEADS)
    other = build_attention("performer", d_model=D_MODEL, num_heads=HEADS)
    x = embeddings().float()
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x, x, x), other(x, x, x))
    assert "directions" not in dict(one.named_parameters())


@pytest.mark.parametrize(("num_features", "rows"), [(None, 27), (5, 5), (23, 23)])
def test_the_number_of_features(num_features: int | None, rows: int) -> None:
    """11·ln 11 = 26.4"""
    module = build_attention("performer", d_model=D_MODEL, num_heads=HEADS, num_features=num_features)
    assert module.directions.shape == (HEADS, rows, HEAD_DIM)


def test_no_features_are_refused() -> None:
    with pytest.raises(UserError, match=r"num_features=0 must be at least 1 \(null means"):
        build_attention("performer", d_model=D_MODEL, num_heads=HEADS, num_features=0)
