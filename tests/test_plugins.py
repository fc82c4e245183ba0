"""The example plugins: each file runs as it is, and is right."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention, discovery, record_patterns, registry

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


@pytest.mark.parametrize("slope_base", [8.0, 3.0])
@pytest.mark.parametrize("causal", [True, False])
def test_alibi_by_hand(slope_base: float, causal: bool, build: Callable[..., Attention], device: torch.device) -> None:
    options = {} if slope_base == 8.0 else {"slope_base": slope_base}
    module = build("alibi", d_model=D_MODEL, num_heads=HEADS, **options)
    query, context = inputs(device)
    mask = Mask(causal=causal, query_offset=1)
    with record_patterns(module) as patterns:
        module(query, context, context, mask)
    size = D_MODEL // HEADS
    q, k = module.query_proj(query), module.key_proj(context)
    for head in range(HEADS):
        part = slice(size * head, size * (head + 1))
        slope = 1 / 2 ** (slope_base * (head + 1) / HEADS)
        for i in range(QUERIES):
            seen = [j for j in range(KEYS) if not causal or j <= i + 1]
            scores = [q[:, i, part].mul(k[:, j, part]).sum(-1) / size**0.5 - slope * abs(i + 1 - j) for j in seen]
            expected = torch.stack(scores, -1).softmax(-1)
            assert_close(patterns["", 0].weights[:, head, i, : len(seen)], expected, rtol=0, atol=1e-7)


def test_alibi_slopes_of_the_paper(build: Callable[..., Attention]) -> None:
    """Section 3: for 8 heads 1/2, 1/4, ... 1/256."""
    slopes = build("alibi", d_model=8, num_heads=8, dtype=torch.float32).slopes
    assert slopes.tolist() == [1 / 2**h for h in range(1, 9)]


def test_alibi_leaves_no_trace_in_a_checkpoint(build: Callable[..., Attention]) -> None:
    module = build("alibi", d_model=D_MODEL, num_heads=HEADS)
    assert set(module.state_dict()) == {name for name, _ in module.named_parameters()}


def test_alibi_refuses_a_slope_base_that_is_no_slope() -> None:
    with pytest.raises(UserError, match=r"slope_base=-1\.0 must be above 0"):
        build_attention("alibi", d_model=D_MODEL, num_heads=HEADS, slope_base=-1.0)


def test_alibi_can_be_cached(build: Callable[..., Attention]) -> None:
    """That its cached steps are right, tests/model/test_incremental.py shows of every file here."""
    assert build("alibi", d_model=D_MODEL, num_heads=HEADS).can_be_cached
