"""Linear attention against its formula, written as loops over queries, keys and features."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, record_patterns
from attnframe.attention import PatternKind
from attnframe.attention.linear import FeatureMap

BATCH, QUERIES, KEYS, D_MODEL, HEADS, D_CONTEXT = 3, 5, 7, 22, 2, 13
LENGTHS = (4, KEYS, 0)

FEATURES: dict[FeatureMap, Callable[[Tensor], Tensor]] = {
    FeatureMap.elu: lambda x: x + 1 if x > 0 else x.exp(),
    FeatureMap.relu: lambda x: x if x > 0 else 0.0 * x,
    FeatureMap.softplus: lambda x: (1 + x.exp()).log(),
}
MASKS = {"open": (False, False, 0), "causal": (True, False, 0), "padded": (False, True, 0), "all": (True, True, 2)}


def mask_of(kind: str) -> Mask:
    causal, padded, offset = MASKS[kind]
    keep = torch.arange(KEYS) < torch.tensor(LENGTHS)[:, None]
    return Mask(key_keep=keep if padded else None, causal=causal, query_offset=offset)


def by_loops(module: Attention, query: Tensor, context: Tensor, kind: str, feature_map: FeatureMap) -> Tensor:
    causal, padded, offset = MASKS[kind]
    phi, size = FEATURES[feature_map], D_MODEL // HEADS
    q, k, v = module.query_proj(query), module.key_proj(context), module.value_proj(context)
    rows = []
    for b in range(BATCH):
        for i in range(QUERIES):
            heads = []
            for h in range(HEADS):
                above, below = torch.zeros(size, dtype=torch.float64), torch.zeros((), dtype=torch.float64)
                for j in range(KEYS):
                    if (causal and j > i + offset) or (padded and j >= LENGTHS[b]):
                        continue
                    part = range(size * h, size * (h + 1))
                    weight = torch.stack([phi(q[b, i, f]) * phi(k[b, j, f]) for f in part]).sum()
                    above = above + weight * v[b, j, size * h : size * (h + 1)]
                    below = below + weight
                heads.append(above / below if below > 0 else above)
            rows.append(module.output_proj(torch.cat(heads)))
    return torch.stack(rows).view(BATCH, QUERIES, D_MODEL)


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(11)
    return torch.randn(BATCH, QUERIES, D_MODEL, dtype=dtype), torch.randn(BATCH, KEYS, D_CONTEXT, dtype=dtype)


@pytest.mark.parametrize("feature_map", FeatureMap)
@pytest.mark.parametrize("kind", MASKS)
def test_it_is_the_formula(kind: str, feature_map: FeatureMap, build: Callable[..., Attention]) -> None:
    module = build("linear", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT, feature_map=feature_map)
    tensors = [x.requires_grad_() for x in inputs()]
    output, expected = module(*tensors, tensors[1], mask_of(kind)), by_loops(module, *tensors, kind, feature_map)
    assert_close(output, expected, rtol=0, atol=1e-12)
    cotangent = torch.randn_like(output)
    variables = [*tensors, *module.parameters()]
    for one, other in zip(
        torch.autograd.grad(output, variables, cotangent),
        torch.autograd.grad(expected, variables, cotangent),
        strict=True,
    ):
        assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", MASKS)
def test_in_float32_too(kind: str, build: Callable[..., Attention]) -> None:
    module = build("linear", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT, dtype=torch.float32)
    query, context = inputs(torch.float32)
    output = module(query, context, context, mask_of(kind))
    expected = by_loops(module.double(), query.double(), context.double(), kind, FeatureMap.elu)
    assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)


def test_alike_keys_are_weighed_alike(build: Callable[..., Attention]) -> None:
    """Unlike under a softmax, twice the feature is twice the weight: weights are linear in the features of a key."""
    module = build("linear", d_model=D_MODEL, num_heads=HEADS, feature_map=FeatureMap.relu, bias=False)
    query = inputs()[0]
    key = torch.randn(BATCH, 1, D_MODEL, dtype=torch.float64)
    with record_patterns(module) as patterns:
        module(query, torch.cat([key, 2 * key, 3 * key], dim=1), torch.randn(BATCH, 3, D_MODEL, dtype=torch.float64))
    pattern = patterns["", 0]
    assert pattern.kind is PatternKind.IMPLICIT
    assert pattern.weights.any()
    sixths = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64) / 6
    seen = pattern.weights.any(-1, keepdim=True)
    assert_close(pattern.weights, torch.where(seen, sixths, 0.0), rtol=0, atol=1e-12)


def test_elu_stays_above_0(build: Callable[..., Attention]) -> None:
    """elu(-30) + 1 in float32 is 1 - 1 = 0."""
    module = build("linear", d_model=D_MODEL, num_heads=HEADS, dtype=torch.float32)
    features = module._features(torch.tensor([-30.0, 0.0, 2.0]))
    assert_close(features, torch.tensor([math.exp(-30), 1.0, 3.0]), rtol=1e-6, atol=0)


def test_a_query_without_a_common_feature_gets_the_output_bias(build: Callable[..., Attention]) -> None:
    module = build("linear", d_model=D_MODEL, num_heads=HEADS, feature_map=FeatureMap.relu)
    with torch.no_grad():
        module.query_proj.weight.zero_()
        module.query_proj.bias.fill_(-1.0)
    x = inputs()[0].requires_grad_()
    output = module(x, x, x, Mask(causal=True))
    assert_close(output, module.output_proj.bias.expand_as(output), rtol=0, atol=0)
    output.sum().backward()
    for tensor in (x, *module.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()


def test_a_window_is_refused(build: Callable[..., Attention]) -> None:
    module = build("linear", d_model=D_MODEL, num_heads=HEADS)
    x = inputs()[0]
    with pytest.raises(UserError, match="linear attention has no window"):
        module(x, x, x, Mask(window=2))
