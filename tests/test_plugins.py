"""The example plugins: each file runs as it is, and is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attnframe import Attention, Mask, UserError, discovery, record_patterns, registry

FOLDER = Path(__file__).parents[1] / "plugins"
FILES = sorted(file for file in FOLDER.glob("*.py") if not file.name.startswith("_"))
BATCH, QUERIES, KEYS, D_MODEL, HEADS = 3, 5, 7, 22, 2

pytestmark = pytest.mark.usefixtures("_examples")


@pytest.fixture
def _examples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(discovery.FOLDERS_VARIABLE, str(FOLDER))
    discovery.load_plugins()


@pytest.fixture(params=FILES, ids=lambda file: file.stem)
def name(request: pytest.FixtureRequest) -> str:
    """By convention a file is called like its variant."""
    assert request.param.stem in registry.variants()
    return request.param.stem


def inputs(device: torch.device) -> tuple[Tensor, Tensor]:
    torch.manual_seed(11)
    query = torch.randn(BATCH, QUERIES, D_MODEL, dtype=torch.float64, device=device)
    context = torch.randn(BATCH, KEYS, D_MODEL, dtype=torch.float64, device=device)
    return query, context


def mask_of(causal: bool, device: torch.device) -> Mask:
    keep = torch.tensor([[j < n for j in range(KEYS)] for n in (4, KEYS, 0)], device=device)
    return Mask(key_keep=keep, causal=causal)


def called(module: Attention, query: Tensor, context: Tensor, mask: Mask) -> Tensor:
    """Its output; the test skips where it refuses a causal mask, which is all that a plugin here may refuse."""
    try:
        return module(query, context, context, mask)
    except UserError as error:
        assert mask.causal
        pytest.skip(str(error))


def test_all_of_them_load() -> None:
    assert FILES
    assert discovery.broken_plugins() == []
    assert [Path(file) for file in discovery.loaded_plugins()] == FILES


def test_it_says_what_it_computes(name: str) -> None:
    variant = registry.variants()[name]
    assert variant.summary
    assert "https://" in (variant.cls.__doc__ or "")


def test_it_keeps_shapes(name: str, build: Callable[..., Attention], device: torch.device) -> None:
    query, context = inputs(device)
    module = build(name, d_model=D_MODEL, num_heads=HEADS)
    assert module(query, context, context).shape == query.shape
    assert module(context, query, query).shape == context.shape


@pytest.mark.parametrize("causal", [True, False])
def test_it_reads_nothing_that_is_hidden(
    name: str, causal: bool, build: Callable[..., Attention], device: torch.device
) -> None:
    query, context = inputs(device)
    mask = mask_of(causal, device)
    allowed = mask.bind(BATCH, QUERIES, KEYS, device).dense()[:, 0]
    module = build(name, d_model=D_MODEL, num_heads=HEADS)
    output = called(module, query, context, mask)
    for j in range(KEYS):
        changed = context.clone()
        changed[:, j] += 1.0
        touched = (module(query, changed, changed, mask) - output).abs().amax(-1) > 1e-10
        assert not (touched & ~allowed[:, :, j]).any(), j
        assert bool(touched.any()) is bool(allowed[:, :, j].any()), j


@pytest.mark.parametrize("causal", [True, False])
def test_gradients_are_finite(name: str, causal: bool, build: Callable[..., Attention], device: torch.device) -> None:
    query, context = (x.requires_grad_() for x in inputs(device))
    module = build(name, d_model=D_MODEL, num_heads=HEADS)
    called(module, query, context, mask_of(causal, device)).pow(2).sum().backward()
    for key, tensor in [("query", query), ("context", context), *module.named_parameters()]:
        assert tensor.grad is not None, key
        assert tensor.grad.isfinite().all(), key


def test_recording_changes_nothing(name: str, build: Callable[..., Attention], device: torch.device) -> None:
    query, context = inputs(device)
    module = build(name, d_model=D_MODEL, num_heads=HEADS)
    plain = module(query, context, context, mask_of(False, device))
    with record_patterns(module) as patterns:
        assert torch.equal(module(query, context, context, mask_of(False, device)), plain)
    assert patterns["", 0].weights.shape == (BATCH, HEADS, QUERIES, KEYS)
