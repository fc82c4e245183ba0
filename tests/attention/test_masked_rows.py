"""A query that may attend to nothing: only the output bias comes out, and gradients stay finite."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, registry
from attnframe.backends import BackendError

BATCH, QUERIES, D_MODEL, HEADS = 3, 5, 14, 2

# name: (keys, mask, the (batch, query) rows that see nothing)
ALL = [(b, i) for b in range(BATCH) for i in range(QUERIES)]
BLIND: dict[str, tuple[int, Callable[[], Mask], list[tuple[int, int]]]] = {
    "padding": (
        7,
        lambda: Mask(key_keep=torch.tensor([[True] * 7, [False] * 7, [True] + [False] * 6])),
        [(1, i) for i in range(QUERIES)],
    ),
    "padding_causal": (
        7,
        lambda: Mask(key_keep=torch.tensor([[True] * 7, [False] * 2 + [True] * 5, [False] * 7]), causal=True),
        [(1, 0), (1, 1), *((2, i) for i in range(QUERIES))],
    ),
    "window_behind": (
        3,
        lambda: Mask(window=1, causal=True, query_offset=2),
        [(b, i) for b in range(BATCH) for i in range(2, QUERIES)],
    ),
    "window_gone": (3, lambda: Mask(window=1, query_offset=11), ALL),
    "no_keys": (0, Mask, ALL),
    "no_keys_causal": (0, lambda: Mask(causal=True), ALL),
}


def output_bias(module: Attention) -> Tensor:
    """What is left when every matrix is zero."""
    empty = copy.deepcopy(module)
    with torch.no_grad():
        for parameter in empty.parameters():
            if parameter.dim() > 1:
                parameter.zero_()
    x = torch.randn(1, 1, D_MODEL, dtype=torch.float64, device=next(module.parameters()).device)
    return empty(x, x, x)[0, 0].detach()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("blind", BLIND)
def test_only_the_output_bias_comes_out(
    variant_name: str,
    backend_name: str,
    blind: str,
    bias: bool,
    build: Callable[..., Attention],
    device: torch.device,
) -> None:
    keys, make_mask, rows = BLIND[blind]
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, bias=bias, backend=backend_name)
    mask = make_mask()
    if mask.key_keep is not None:
        mask = Mask(mask.key_keep.to(device), mask.causal, mask.window, mask.query_offset)
    inputs = [
        torch.randn(BATCH, length, D_MODEL, dtype=torch.float64, device=device, requires_grad=True)
        for length in (QUERIES, keys, keys)
    ]
    for training in (True, False):
        module.train(training)
        try:
            output = module(*inputs, mask)
        except BackendError:
            raise
        except UserError as error:
            assert mask.window is not None, "a core variant may refuse a window, and no other mask"
            pytest.skip(str(error))
        expected = output_bias(module)
        assert bool(expected.any()) is (bias and "bias" in registry.variants()[variant_name].takes)
        for b, i in ALL:
            if (b, i) in rows:
                assert_close(output[b, i], expected, rtol=0, atol=1e-12)
            else:
                assert not torch.isclose(output[b, i], expected, rtol=0, atol=1e-6).all(), (b, i)
        (output * torch.randn_like(output)).sum().backward()
        for tensor in [*inputs, *module.parameters()]:
            assert tensor.grad is None or tensor.grad.isfinite().all()
        if keys and len(rows) < len(ALL):
            assert inputs[2].grad is not None
            assert inputs[2].grad.abs().max() > 0


def test_padding_is_never_read(
    variant_name: str, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    """What stands at a padded place changes nothing, not even when it is huge."""
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    query = torch.randn(BATCH, QUERIES, D_MODEL, dtype=torch.float64, device=device)
    context = torch.randn(BATCH, 7, D_MODEL, dtype=torch.float64, device=device)
    keep = torch.tensor([[j < n for j in range(7)] for n in (4, 7, 1)], device=device)
    other = torch.where(keep[..., None], context, 1e6)
    assert_close(
        module(query, other, other, Mask(keep)), module(query, context, context, Mask(keep)), rtol=0, atol=1e-10
    )
    assert not torch.equal(module(query, other, other), module(query, context, context))


@pytest.mark.parametrize("padded", [False, True])
def test_a_row_that_score_mod_empties_gives_zeros_too(padded: bool, device: torch.device) -> None:
    """Whether or not another sentence of the batch is padded."""
    module = Attention()
    module.backend = "eager"
    q = torch.randn(2, 3, 5, 7, device=device, requires_grad=True)
    keep = torch.ones(2, 5, dtype=torch.bool, device=device)
    keep[1, 3:] = not padded
    output = module.attend(
        q, q, q, Mask(key_keep=keep).bind(2, 5, 5), score_mod=lambda s, b, h, i, j: torch.where(i == 2, -torch.inf, s)
    )
    assert_close(output[:, :, 2], torch.zeros_like(output[:, :, 2]), rtol=0, atol=0)
    assert output[:, :, [0, 1, 3, 4]].abs().amin(dim=(0, 1, 3)).min() > 0
    output.sum().backward()
    assert q.grad is not None
    assert q.grad.isfinite().all()
