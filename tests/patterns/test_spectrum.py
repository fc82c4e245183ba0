from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.linalg
import scipy.stats
import torch
from torch.testing import assert_close

from attnframe.patterns.spectrum import effective_rank, low_rank_spectrum, spectrum


@pytest.mark.parametrize("shape", [(5, 3), (3, 5), (7, 7), (2, 11, 5, 3)])
def test_the_spectrum_is_that_of_scipy(shape: tuple[int, ...]) -> None:
    matrices = torch.from_numpy(np.random.default_rng(3).normal(size=shape))
    found = spectrum(matrices)
    assert found.shape == (*shape[:-2], min(shape[-2:]))
    expected = [scipy.linalg.svdvals(matrix.numpy()) for matrix in matrices.reshape(-1, *shape[-2:])]
    assert_close(found.reshape(len(expected), -1), torch.tensor(np.array(expected)), rtol=1e-12, atol=1e-12)
    entropies = [scipy.stats.entropy(values) for values in expected]
    assert_close(effective_rank(found).flatten(), torch.tensor(entropies).exp(), rtol=1e-12, atol=0)


def test_known_maps() -> None:
    assert effective_rank(spectrum(torch.eye(5))).item() == pytest.approx(5, rel=1e-6)
    column, row = torch.arange(1.0, 8).double()[:, None], torch.arange(1.0, 4).double()[None]
    assert effective_rank(spectrum(column @ row)).item() == pytest.approx(1, rel=1e-9)
    # 3/4 and 1/4 of the sum: 4 / 3^(3/4).
    assert effective_rank(torch.tensor([3.0, 1.0, 0.0]).double()).item() == pytest.approx(4 / 3**0.75, rel=1e-12)
    rotation = torch.linalg.qr(torch.randn(7, 7, generator=torch.manual_seed(2)).double())[0]
    scaled = 100 * rotation @ torch.diag(torch.tensor([1.0, 1, 1, 0, 0, 0, 0]).double())
    assert effective_rank(spectrum(scaled)).item() == pytest.approx(3, rel=1e-12)


def test_a_product_of_thin_matrices_has_their_rank_at_most() -> None:
    generator = torch.manual_seed(5)
    down, up = torch.randn(13, 3, generator=generator).double(), torch.randn(3, 13, generator=generator).double()
    values = spectrum(down @ up)
    assert values[3:].max() < 1e-12 * values[0]
    assert 1 < effective_rank(values).item() < 3


def test_half_precision_is_widened_and_gradients_stay_out() -> None:
    matrix = torch.randn(5, 3, generator=torch.manual_seed(1)).bfloat16().requires_grad_()
    found = spectrum(matrix)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert_close(found, spectrum(matrix.double()).float(), rtol=1e-5, atol=1e-6)


def test_the_zero_map_has_no_effective_rank() -> None:
    assert math.isnan(effective_rank(torch.zeros(3)).item())
    assert math.isnan(effective_rank(torch.tensor([1.0, math.nan])).item())


@pytest.mark.parametrize(
    ("shape", "rank", "told"),
    [((3, 41, 37), 5, 5), ((3, 41, 37), 5, 2), ((2, 37, 41), 20, 5), ((7, 41), 3, 5), ((2, 41, 37), 0, 3)],
    ids=["told", "told too little", "told far too little", "thin", "zero"],
)
@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
def test_a_low_rank_spectrum_is_the_spectrum(
    shape: tuple[int, ...], rank: int, told: int, dtype: torch.dtype, limit: float
) -> None:
    generator = torch.Generator().manual_seed(11)
    thin = (*shape[:-1], rank), (*shape[:-2], rank, shape[-1])
    matrix = torch.randn(thin[0], generator=generator, dtype=dtype) @ torch.randn(
        thin[1], generator=generator, dtype=dtype
    )
    before = torch.get_rng_state()
    found, whole = low_rank_spectrum(matrix, told), spectrum(matrix)
    assert torch.equal(torch.get_rng_state(), before)
    kept = found.shape[-1]
    assert kept == (min(told + 8, *shape[-2:]) if rank <= told + 8 else min(shape[-2:]))
    largest = whole.amax().item()
    assert_close(found, whole[..., :kept], rtol=0, atol=limit * max(largest, 1))
    assert (whole[..., kept:] <= limit * largest).all()


def test_a_map_of_full_rank_is_not_cut() -> None:
    matrix = torch.randn(2, 41, 37, generator=torch.Generator().manual_seed(3))
    assert torch.equal(low_rank_spectrum(matrix, 5), spectrum(matrix))
