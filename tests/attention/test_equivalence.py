"""The core variants against `torch.nn.MultiheadAttention` with copied weights, and against each other."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import Attention, Mask
from attnframe.attention import AttendCall, Observer
from attnframe.backends import attention_weights
from attnframe.patterns.recording import record_patterns

BATCH, QUERIES, KEYS, D_MODEL, HEADS, D_CONTEXT = 3, 5, 7, 22, 2, 13
EXACT = {"rtol": 0.0, "atol": 1e-10}

# Ours says who may attend; theirs who may not. Every row keeps at least one key.
LENGTHS = (4, KEYS, 1)
MASKS = {
    "open": (False, False),
    "causal": (True, False),
    "padding": (False, True),
    "both": (True, True),
}


def masks(kind: str, queries: int, device: torch.device) -> tuple[Mask, Tensor | None, Tensor | None]:
    """(ours, their attn_mask, their key_padding_mask)."""
    causal, padding = MASKS[kind]
    later = torch.tensor([[j > i for j in range(KEYS)] for i in range(queries)], device=device)
    pad = torch.tensor([[j >= n for j in range(KEYS)] for n in LENGTHS], device=device)
    mask = Mask(key_keep=~pad if padding else None, causal=causal)
    return mask, later if causal else None, pad if padding else None


def copy_to_torch(module: Attention, d_context: int = D_MODEL, bias: bool = True) -> nn.MultiheadAttention:
    """PyTorch's module with our weights."""
    theirs = nn.MultiheadAttention(
        D_MODEL, HEADS, bias=bias, kdim=d_context, vdim=d_context, batch_first=True, dtype=torch.float64
    ).to(next(module.parameters()).device)
    projections = [module.query_proj, module.key_proj, module.value_proj]
    with torch.no_grad():
        if theirs.in_proj_weight is not None:
            theirs.in_proj_weight.copy_(torch.cat([linear.weight for linear in projections]))
        else:
            theirs.q_proj_weight.copy_(module.query_proj.weight)
            theirs.k_proj_weight.copy_(module.key_proj.weight)
            theirs.v_proj_weight.copy_(module.value_proj.weight)
        theirs.out_proj.weight.copy_(module.output_proj.weight)
        if bias:
            theirs.in_proj_bias.copy_(torch.cat([linear.bias for linear in projections]))
            theirs.out_proj.bias.copy_(module.output_proj.bias)
    return theirs


def gradients_of_torch(theirs: nn.MultiheadAttention, bias: bool) -> dict[str, Tensor | None]:
    """The gradients of PyTorch's parameters by our names."""
    if theirs.in_proj_weight is not None:
        weights = theirs.in_proj_weight.grad.chunk(3)
    else:
        weights = [theirs.q_proj_weight.grad, theirs.k_proj_weight.grad, theirs.v_proj_weight.grad]
    names = ("query_proj", "key_proj", "value_proj")
    found = {f"{name}.weight": gradient for name, gradient in zip(names, weights, strict=True)}
    found["output_proj.weight"] = theirs.out_proj.weight.grad
    if bias:
        found |= {f"{name}.bias": grad for name, grad in zip(names, theirs.in_proj_bias.grad.chunk(3), strict=True)}
        found["output_proj.bias"] = theirs.out_proj.bias.grad
    return found


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("mask_kind", MASKS)
@pytest.mark.parametrize(
    ("name", "d_context"), [("multi_head", D_MODEL), ("cross", D_MODEL), ("cross", D_CONTEXT)], ids=str
)
def test_equals_torch(
    name: str,
    d_context: int,
    mask_kind: str,
    bias: bool,
    backend_name: str,
    build: Callable[..., Attention],
    device: torch.device,
) -> None:
    module = build(name, d_model=D_MODEL, num_heads=HEADS, d_context=d_context, bias=bias, backend=backend_name)
    theirs = copy_to_torch(module, d_context, bias)
    mask, attn_mask, key_padding_mask = masks(mask_kind, QUERIES, device)
    shapes = [(BATCH, QUERIES, D_MODEL), (BATCH, KEYS, d_context), (BATCH, KEYS, d_context)]
    ours_in = [torch.randn(s, dtype=torch.float64, device=device, requires_grad=True) for s in shapes]
    theirs_in = [x.detach().clone().requires_grad_() for x in ours_in]
    with record_patterns(module) as patterns:
        output = module(*ours_in, mask)
    expected, weights = theirs(
        *theirs_in,
        attn_mask=attn_mask,
        key_padding_mask=key_padding_mask,
        need_weights=True,
        average_attn_weights=False,
    )
    assert_close(output, expected, **EXACT)
    assert_close(patterns["", 0].weights, weights, **EXACT)
    cotangent = torch.randn_like(expected)
    output.backward(cotangent)
    expected.backward(cotangent)
    for one, other in zip(ours_in, theirs_in, strict=True):
        assert_close(one.grad, other.grad, **EXACT)
    actual = {parameter: tensor.grad for parameter, tensor in module.named_parameters()}
    wanted = gradients_of_torch(theirs, bias)
    assert actual.keys() == wanted.keys()
    for parameter, gradient in actual.items():
        assert_close(gradient, wanted[parameter], **EXACT)


def random_inputs(device: torch.device, d_context: int = D_MODEL) -> tuple[Tensor, Tensor, Tensor]:
    query = torch.randn(BATCH, QUERIES, D_MODEL, dtype=torch.float64, device=device)
    key, value = torch.randn(2, BATCH, KEYS, d_context, dtype=torch.float64, device=device)
    return query, key, value


def head_by_head(module: Attention, query: Tensor, key: Tensor, value: Tensor, dense: Tensor, heads: int) -> Tensor:
    """E' - E as the note says it: each head's ΔE on its own, then their sum, then the bias."""
    size = D_MODEL // heads
    total = torch.zeros_like(query)
    for head in range(heads):
        rows = slice(size * head, size * (head + 1))
        q = query @ module.query_proj.weight[rows].T + module.query_proj.bias[rows]
        k = key @ module.key_proj.weight[rows].T + module.key_proj.bias[rows]
        scores = (q @ k.mT / size**0.5).masked_fill(~dense[:, 0], -torch.inf)
        value_map = module.output_proj.weight[:, rows] @ module.value_proj.weight[rows]  # the note's V of this head
        value_bias = module.output_proj.weight[:, rows] @ module.value_proj.bias[rows]
        total = total + scores.softmax(-1) @ (value @ value_map.T + value_bias)
    return total + module.output_proj.bias


@pytest.mark.parametrize("mask_kind", MASKS)
def test_multi_head_is_the_sum_of_its_heads(
    mask_kind: str, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    inputs = random_inputs(device)
    mask, _, _ = masks(mask_kind, QUERIES, device)
    dense = mask.bind(BATCH, QUERIES, KEYS, device).dense()
    assert_close(module(*inputs, mask), head_by_head(module, *inputs, dense, HEADS), **EXACT)


@pytest.mark.parametrize("mask_kind", MASKS)
def test_cross_at_equal_widths_is_multi_head(
    mask_kind: str, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    one = build("multi_head", d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    other = build("cross", d_model=D_MODEL, num_heads=HEADS, backend=backend_name, seed=1)
    other.load_state_dict(one.state_dict())
    mask, _, _ = masks(mask_kind, QUERIES, device)
    inputs = random_inputs(device)
    assert_close(other(*inputs, mask), one(*inputs, mask), **EXACT)


@pytest.mark.parametrize("mask_kind", MASKS)
def test_self_is_multi_head_with_one_head(
    mask_kind: str, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    one = build("multi_head", d_model=D_MODEL, num_heads=1, backend=backend_name)
    other = build("self", d_model=D_MODEL, num_heads=HEADS, backend=backend_name, seed=1)
    other.load_state_dict(one.state_dict())
    mask, _, _ = masks(mask_kind, QUERIES, device)
    inputs = random_inputs(device)
    assert_close(other(*inputs, mask), one(*inputs, mask), **EXACT)


def test_self_with_a_smaller_head(build: Callable[..., Attention], backend_name: str, device: torch.device) -> None:
    module = build("self", d_model=D_MODEL, num_heads=HEADS, head_dim=3, backend=backend_name)
    query, key, value = random_inputs(device)
    q = query @ module.query_proj.weight.T + module.query_proj.bias
    k = key @ module.key_proj.weight.T + module.key_proj.bias
    v = value @ module.value_proj.weight.T + module.value_proj.bias
    assert q.shape[-1] == 3
    expected = (q @ k.mT / 3**0.5).softmax(-1) @ v @ module.output_proj.weight.T + module.output_proj.bias
    assert_close(module(query, key, value), expected, **EXACT)


@pytest.mark.parametrize("mask_kind", MASKS)
def test_low_rank_v_at_its_default_rank_is_multi_head(
    mask_kind: str, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    one = build("multi_head", d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    other = build("low_rank_v", d_model=D_MODEL, num_heads=HEADS, backend=backend_name, seed=1)
    with torch.no_grad():
        for name in ("query_proj", "key_proj"):
            getattr(other, name).load_state_dict(getattr(one, name).state_dict())
        other.value_down.weight.copy_(one.value_proj.weight)
        other.value_up.weight.copy_(one.output_proj.weight)
        # The weights of a row sum to 1, so b_V comes through as b_V·W_O.
        other.value_up.bias.copy_(one.output_proj.weight @ one.value_proj.bias + one.output_proj.bias)
    mask, _, _ = masks(mask_kind, QUERIES, device)
    inputs = random_inputs(device)
    assert_close(other(*inputs, mask), one(*inputs, mask), **EXACT)


@pytest.mark.parametrize("mask_kind", MASKS)
def test_uniform_weighs_the_allowed_keys_alike(
    mask_kind: str, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    module = build("uniform", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT, backend=backend_name)
    mask, _, _ = masks(mask_kind, QUERIES, device)
    query, key, value = random_inputs(device, D_CONTEXT)
    with record_patterns(module) as patterns:
        output = module(query, key, value, mask)
    causal, padding = MASKS[mask_kind]
    for b in range(BATCH):
        for i in range(QUERIES):
            seen = [j for j in range(KEYS) if not (causal and j > i) and not (padding and j >= LENGTHS[b])]
            row = torch.tensor([1 / len(seen) if j in seen else 0.0 for j in range(KEYS)], dtype=torch.float64)
            assert_close(patterns["", 0].weights[b, :, i].cpu(), row.expand(HEADS, KEYS), **EXACT)
            mean = sum(value[b, j] for j in seen) / len(seen)
            assert_close(output[b, i], module.output_proj(module.value_proj(mean)), **EXACT)


def test_a_decoding_step_is_a_row_of_the_full_pass(
    variant_name: str, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    x = torch.randn(BATCH, KEYS, D_MODEL, dtype=torch.float64, device=device)
    full = module(x, x, x, Mask(causal=True))
    for step in range(KEYS):
        seen = x[:, : step + 1]
        one = module(x[:, step : step + 1], seen, seen, Mask(causal=True, query_offset=step))
        assert_close(one, full[:, step : step + 1], **EXACT)


class _Pattern(Observer):
    """The weights of each attend call, recomputed from what the module gave it."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []

    def attended(self, module: Attention, call: AttendCall) -> None:
        self.weights.append(attention_weights(call.q, call.k, call.mask, scale=call.scale))


def test_observers_see_calls_only_while_they_watch(build: Callable[..., Attention], device: torch.device) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS)
    inputs = random_inputs(device)
    watcher = _Pattern()
    module(*inputs)
    with module.observed_by(watcher):
        module(*inputs)
    module(*inputs)
    assert [tuple(weights.shape) for weights in watcher.weights] == [(BATCH, HEADS, QUERIES, KEYS)]
