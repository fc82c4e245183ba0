"""Sliding-window attention: a loop over queries and keys, Gemma 2's window, and the structure that a kernel sees."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hf_weights import MASKS, copy_projections, mask_of, no_rotation, require_same
from oracles import oracle
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention, record_patterns, registry
from attnframe.attention import AttendCall, Observer
from attnframe.testing.subject import Subject
from attnframe.testing.suite import CHECKS

BATCH, QUERIES, KEYS, HEAD_DIM, HEADS = 3, 11, 13, 10, 3
D_MODEL = HEADS * HEAD_DIM
EXACT = {"rtol": 0.0, "atol": 1e-10}


def may_attend(i: int, j: int, window: int, num_global: int) -> bool:
    """Section 3.1 of the paper: what is near, and what is global on either side."""
    return -window <= i - j <= window or i in range(num_global) or j in range(num_global)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("window", "num_global"), [(0, 0), (1, 0), (4, 0), (0, 1), (2, 1), (2, 3)])
def test_equals_a_loop(
    window: int,
    num_global: int,
    causal: bool,
    backend_name: str,
    build: Callable[..., Attention],
    device: torch.device,
) -> None:
    options = {"window": window, "num_global": num_global, "backend": backend_name}
    module = build("sliding_window", d_model=D_MODEL, num_heads=HEADS, **options)
    query = torch.randn(BATCH, QUERIES, D_MODEL, dtype=torch.float64, device=device)
    key, value = torch.randn(2, BATCH, KEYS, D_MODEL, dtype=torch.float64, device=device)
    lengths = (5, KEYS, 1)
    keep = torch.tensor([[j < n for j in range(KEYS)] for n in lengths], device=device)
    with record_patterns(module) as patterns:
        output = module(query, key, value, Mask(key_keep=keep, causal=causal, query_offset=1))
    q, k, v = module.query_proj(query), module.key_proj(key), module.value_proj(value)
    expected = torch.zeros_like(query)
    for b in range(BATCH):
        for row in range(QUERIES):
            i = row + 1  # the first query stands at position 1
            seen = [j for j in range(lengths[b]) if may_attend(i, j, window, num_global) and not (causal and j > i)]
            for head in range(HEADS if seen else 0):
                part = slice(HEAD_DIM * head, HEAD_DIM * (head + 1))
                weights = ((k[b, seen, part] @ q[b, row, part]) / HEAD_DIM**0.5).softmax(0)
                expected[b, row, part] = weights @ v[b, seen, part]
            unseen = [j for j in range(KEYS) if j not in seen]
            assert not patterns["", 0].weights[b, :, row, unseen].any()
    assert_close(output, module.output_proj(expected), **EXACT)


@pytest.mark.parametrize("padded", [True, False])
@pytest.mark.parametrize("sliding_window", [1, 4])
def test_equals_gemma2(sliding_window: int, padded: bool, build: Callable[..., Attention]) -> None:
    """Its layers with a window, under the mask of its own library; its window counts the query itself."""
    gemma = oracle("transformers.models.gemma2.modeling_gemma2")
    config = gemma.Gemma2Config(
        hidden_size=D_MODEL,
        head_dim=HEAD_DIM,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        query_pre_attn_scalar=HEAD_DIM,
        attention_bias=True,
        sliding_window=sliding_window,
        attn_logit_softcapping=None,
        layer_types=["sliding_attention"],
        num_hidden_layers=1,
        attn_implementation="eager",
    )
    options = {"window": sliding_window - 1, "num_global": 0}
    ours = build("sliding_window", d_model=D_MODEL, num_heads=HEADS, dtype=torch.float32, **options)
    theirs = gemma.Gemma2Attention(config, layer_idx=0)
    assert theirs.sliding_window == sliding_window
    copy_projections(ours, theirs)
    # A query that sees padding alone is no case of theirs, so that the padding is shorter than a window.
    lengths = (KEYS, KEYS - sliding_window + 1, KEYS)
    keep = torch.tensor([[j < n for j in range(KEYS)] for n in lengths])

    def run(x: Tensor) -> Tensor:
        their_mask = gemma.create_sliding_window_causal_mask(
            config, x, keep.long() if padded else None, None, allow_is_causal_skip=False
        )
        return theirs(x, no_rotation(KEYS, HEAD_DIM), their_mask)[0]

    mask = Mask(key_keep=keep if padded else None, causal=True)
    require_same(lambda x: ours(x, x, x, mask), run, batch=BATCH, length=KEYS, d_model=D_MODEL)


@pytest.mark.parametrize("mask_kind", MASKS)
@pytest.mark.parametrize("options", [{"window": 12, "num_global": 0}, {"window": 0, "num_global": 13}], ids=str)
def test_a_window_over_everything_is_multi_head(
    options: dict[str, int], mask_kind: str, build: Callable[..., Attention]
) -> None:
    module = build("sliding_window", d_model=D_MODEL, num_heads=HEADS, **options)
    full = build("multi_head", d_model=D_MODEL, num_heads=HEADS)
    full.load_state_dict(module.state_dict())
    x = torch.randn(BATCH, KEYS, D_MODEL, dtype=torch.float64)
    mask = mask_of(mask_kind, BATCH, KEYS)
    assert_close(module(x, x, x, mask), full(x, x, x, mask), **EXACT)


class _Calls(Observer):
    def __init__(self) -> None:
        self.calls: list[AttendCall] = []

    def attended(self, module: Attention, call: AttendCall) -> None:
        self.calls.append(call)


@pytest.mark.parametrize(("given", "expected"), [(None, 3), (5, 3), (2, 2)])
def test_a_backend_sees_the_window_as_structure(given: int | None, expected: int) -> None:
    module = build_attention("sliding_window", d_model=D_MODEL, num_heads=HEADS, window=3, num_global=0)
    x, log = torch.randn(1, KEYS, D_MODEL), _Calls()
    with module.observed_by(log):
        module(x, x, x, Mask(window=given))
    (call,) = log.calls
    assert (call.mask.window, call.mask_mod) == (expected, None)


def test_a_given_window_binds_global_tokens_too(build: Callable[..., Attention]) -> None:
    module = build("sliding_window", d_model=D_MODEL, num_heads=HEADS, window=3, num_global=2)
    x = torch.randn(1, KEYS, D_MODEL, dtype=torch.float64)
    with record_patterns(module) as patterns:
        module(x, x, x, Mask(window=1))
    near = torch.tensor([[abs(i - j) <= 1 for j in range(KEYS)] for i in range(KEYS)])
    assert torch.equal(patterns["", 0].weights[0, 0] > 0, near)


@pytest.mark.parametrize("options", [{"window": 1, "num_global": 0}, {"window": 2, "num_global": 1}], ids=str)
@pytest.mark.parametrize(
    "check", ["masked-keys", "blind-rows", "causal", "padding", "gradcheck", "cached-decoding", "pattern", "backends"]
)
def test_keeps_the_contract_with_a_window_that_hides(check: str, options: dict[str, int], backend_name: str) -> None:
    """The default window is wider than what `attnframe check` looks at."""
    variant = registry.variants()["sliding_window"]
    CHECKS[check].run(Subject(variant, backend=backend_name, options=options))


def test_refuses_what_is_no_number_of_tokens() -> None:
    with pytest.raises(UserError, match="window=-1 must be at least 0"):
        build_attention("sliding_window", d_model=D_MODEL, num_heads=HEADS, window=-1)
    with pytest.raises(UserError, match="num_global=-1 must be at least 0"):
        build_attention("sliding_window", d_model=D_MODEL, num_heads=HEADS, num_global=-1)
