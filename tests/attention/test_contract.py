"""Ideas that are not one softmax, each a throw-away variant: the contract bends for none of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import Attention, Mask, masked_softmax, merge_heads, register_attention, registry, split_heads
from attnframe.attention import PatternKind
from attnframe.patterns.recording import record_patterns

BATCH, QUERIES, KEYS, D_MODEL, HEADS = 3, 5, 7, 22, 2


class _Projected(Attention):
    """Four projections, and the values of the last call for the tests to look at."""

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, d_model)
        self.key_proj = nn.Linear(d_model, d_model)
        self.value_proj = nn.Linear(d_model, d_model)
        self.output_proj = nn.Linear(d_model, d_model)

    def qkv(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        self.v = split_heads(self.value_proj(value), self.num_heads)
        return q, k, self.v

    def finish(self, heads: Tensor) -> Tensor:
        """What becomes of the product of weights and values."""
        return self.output_proj(merge_heads(heads))


class Linear(_Projected):
    """φ(Q)·(φ(K)ᵀ·V) / (φ(Q)·Σφ(K)): no softmax, no attend.

    Katharopoulos et al. 2020, section 3.2, https://arxiv.org/abs/2006.16236.
    """

    kind = PatternKind.IMPLICIT

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = self.qkv(query, key, value)
        q, k = nn.functional.elu(q) + 1, nn.functional.elu(k) + 1
        if mask.key_keep is not None:
            k = k * mask.key_keep[:, None, :, None]
        outer, total = k.unsqueeze(-1) * v.unsqueeze(-2), k
        if mask.causal:  # the state after each key; a query takes the one at its own position
            position = (torch.arange(q.shape[2], device=q.device) + mask.query_offset).clamp(max=k.shape[2] - 1)
            outer, total = outer.cumsum(2)[:, :, position], total.cumsum(2)[:, :, position]
        else:
            outer, total = outer.sum(2, keepdim=True), total.sum(2, keepdim=True)
        mass = (q * total).sum(-1, keepdim=True)
        output = (q.unsqueeze(-2) @ outer).squeeze(-2) / mass.clamp(min=1e-9)

        def combine() -> Tensor:
            weights = (q @ k.mT) * mask.dense()
            return weights / weights.sum(-1, keepdim=True).clamp(min=1e-9)

        self.report_pattern(combine, "implicit")
        return self.finish(output)


class Differential(_Projected):
    """(softmax(Q¹·K¹ᵀ) - λ·softmax(Q²·K²ᵀ))·V. Ye et al. 2024, section 2.1, https://arxiv.org/abs/2410.05258."""

    kind = PatternKind.SIGNED

    def __init__(self, d_model: int, num_heads: int, *, lambda_init: float = 0.8) -> None:
        super().__init__(d_model, num_heads)
        self.other_query_proj = nn.Linear(d_model, d_model)
        self.other_key_proj = nn.Linear(d_model, d_model)
        self.lambda_ = nn.Parameter(torch.tensor(lambda_init))

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = self.qkv(query, key, value)
        other_q = split_heads(self.other_query_proj(query), self.num_heads)
        other_k = split_heads(self.other_key_proj(key), self.num_heads)
        output = self.attend(q, k, v, mask) - self.lambda_ * self.attend(other_q, other_k, v, mask)
        self.report_pattern(lambda first, second: first - self.lambda_ * second, PatternKind.SIGNED)
        return self.finish(output)


class Latent(Attention):
    """softmax(Q·(C·W_UK)ᵀ)·(C·W_UV) with C = X·W_DKV: keys and values rebuilt from one narrow latent, d_v != d_k.

    DeepSeek-AI 2024, section 2.1.2, https://arxiv.org/abs/2405.04434.
    """

    kind = PatternKind.PROBABILITY

    def __init__(
        self, d_model: int, num_heads: int, *, rank: int = 3, head_dim: int = 5, value_dim: int | None = None
    ) -> None:
        super().__init__()
        value_dim = 13 if value_dim is None else value_dim
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, num_heads * head_dim)
        self.down = nn.Linear(d_model, rank, bias=False)
        self.key_up = nn.Linear(rank, num_heads * head_dim, bias=False)
        self.value_up = nn.Linear(rank, num_heads * value_dim, bias=False)
        self.output_proj = nn.Linear(num_heads * value_dim, d_model)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_up(self.down(key)), self.num_heads)
        self.v = split_heads(self.value_up(self.down(value)), self.num_heads)
        return self.finish(self.attend(q, k, self.v, mask))

    finish = _Projected.finish


class Additive(_Projected):
    """softmax(w·tanh(Q + K))·V: own scores, no attend.

    Bahdanau et al. 2015, section A.1.2, https://arxiv.org/abs/1409.0473.
    """

    kind = PatternKind.PROBABILITY

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__(d_model, num_heads)
        self.score = nn.Linear(d_model // num_heads, 1, bias=False)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = self.qkv(query, key, value)
        scores = self.score(torch.tanh(q.unsqueeze(3) + k.unsqueeze(2))).squeeze(-1)
        weights = masked_softmax(scores, mask.dense())
        self.report_pattern(lambda: weights, "probability")
        return self.finish(weights @ v)


class Sliding(_Projected):
    """Softmax attention to the `reach` nearest tokens on both sides.

    Beltagy et al. 2020, section 3.1, https://arxiv.org/abs/2004.05150.
    """

    kind = PatternKind.PROBABILITY

    def __init__(self, d_model: int, num_heads: int, *, reach: int = 1) -> None:
        super().__init__(d_model, num_heads)
        self.reach = reach

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        return self.finish(self.attend(*self.qkv(query, key, value), dataclasses.replace(mask, window=self.reach)))


class Linearly(_Projected):
    """softmax(Q·Kᵀ/√d_k - m_h·|i - j|)·V by score_mod. Press et al. 2022, https://arxiv.org/abs/2108.12409."""

    kind = PatternKind.PROBABILITY

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        def nearer(score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
            return score - (q_idx - kv_idx).abs() * 2.0 ** -(head + 1.0)

        return self.finish(self.attend(*self.qkv(query, key, value), mask, score_mod=nearer))


IDEAS = [Linear, Differential, Latent, Additive, Sliding, Linearly]


@pytest.fixture(params=IDEAS, ids=lambda cls: cls.__name__)
def idea(request: pytest.FixtureRequest, backend_name: str, build: Callable[..., Attention]) -> Attention:
    register_attention("idea")(request.param)
    return build("idea", d_model=D_MODEL, num_heads=HEADS, backend=backend_name)


def inputs(device: torch.device) -> tuple[Tensor, Tensor]:
    torch.manual_seed(11)
    query = torch.randn(BATCH, QUERIES, D_MODEL, dtype=torch.float64, device=device)
    context = torch.randn(BATCH, KEYS, D_MODEL, dtype=torch.float64, device=device)
    return query, context


def mask_of(kind: str, device: torch.device) -> Mask:
    keep = torch.tensor([[j < n for j in range(KEYS)] for n in (4, KEYS, 0)], device=device)
    return Mask(key_keep=keep if "padded" in kind else None, causal="causal" in kind, query_offset=2 * ("late" in kind))


KINDS = ["open", "causal", "padded", "padded causal", "padded causal late"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_hidden_changes_nothing(idea: Attention, kind: str, device: torch.device) -> None:
    query, context = inputs(device)
    mask = mask_of(kind, device)
    allowed = mask.bind(BATCH, QUERIES, KEYS, device).dense()[:, 0]
    output = idea(query, context, context, mask)
    assert output.shape == query.shape
    for j in range(KEYS):
        changed = context.clone()
        changed[:, j] += torch.randn(BATCH, D_MODEL, dtype=torch.float64, device=device)
        touched = (idea(query, changed, changed, mask) - output).abs().amax(-1) > 1e-10
        assert not (touched & ~allowed[:, :, j]).any(), j
        if not isinstance(idea, Sliding):  # which hides more than it was told
            assert bool(touched.any()) is bool(allowed[:, :, j].any()), j


@pytest.mark.parametrize("kind", KINDS)
def test_its_pattern_times_its_values_is_its_output(idea: Attention, kind: str, device: torch.device) -> None:
    query, context = inputs(device)
    mask = mask_of(kind, device)
    with record_patterns(idea) as patterns:
        output = idea(query, context, context, mask)
    assert_close(idea(query, context, context, mask), output, rtol=0, atol=0)
    pattern = patterns["", 0]
    assert pattern.kind is idea.kind
    assert pattern.weights.shape == (BATCH, HEADS, QUERIES, KEYS)
    assert not pattern.weights.requires_grad
    assert_close(idea.finish(pattern.weights @ idea.v), output, rtol=0, atol=1e-10)
    dense = mask.bind(BATCH, QUERIES, KEYS, device).dense()
    hidden = pattern.weights.masked_select(~dense)
    assert_close(hidden, torch.zeros_like(hidden), rtol=0, atol=0)
    if pattern.kind is not PatternKind.SIGNED:
        assert (pattern.weights >= 0).all()
        seen = (pattern.weights > 0).any(-1).double()
        assert_close(pattern.weights.sum(-1), seen, rtol=0, atol=1e-10)
    else:
        assert (pattern.weights < 0).any()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_finite_and_reach_every_parameter(idea: Attention, kind: str, device: torch.device) -> None:
    query, context = (x.requires_grad_() for x in inputs(device))
    idea(query, context, context, mask_of(kind, device)).pow(2).sum().backward()
    for name, tensor in [("query", query), ("context", context), *idea.named_parameters()]:
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
        assert tensor.grad.abs().max() > 0 or "key_proj.bias" in name, name


def test_a_blind_query_gets_the_output_bias(idea: Attention, device: torch.device) -> None:
    query, context = inputs(device)
    output = idea(query, context, context, mask_of("padded", device))
    assert_close(output[2], idea.output_proj.bias.expand(QUERIES, D_MODEL), rtol=0, atol=1e-12)


def test_its_options_are_a_schema(idea: Attention) -> None:
    variant = registry.variants()["idea"]
    assert variant.takes == {"d_model", "num_heads"}
    assert all(option.default == variant.schema()().__dict__[option.name] for option in variant.options)


def test_a_narrow_window_is_obeyed(build: Callable[..., Attention], backend_name: str, device: torch.device) -> None:
    register_attention("idea")(Sliding)
    module = build("idea", d_model=D_MODEL, num_heads=HEADS, reach=2, backend=backend_name)
    query, context = inputs(device)
    with record_patterns(module) as patterns:
        module(query, context, context)
    near = [[abs(i - j) <= 2 for j in range(KEYS)] for i in range(QUERIES)]
    assert (patterns["", 0].weights[1, 1] > 0).tolist() == near


def test_two_attends_of_one_module_may_need_two_things_of_the_backend(
    build: Callable[..., Attention], backend_name: str, device: torch.device
) -> None:
    """The latent keeps d_v apart from d_k, whichever is the greater."""
    register_attention("idea")(Latent)
    query, context = inputs(device)
    for head_dim, value_dim in ((5, 13), (13, 5), (1, 3)):
        module = build(
            "idea", d_model=D_MODEL, num_heads=HEADS, head_dim=head_dim, value_dim=value_dim, backend=backend_name
        )
        assert module(query, context, context).shape == query.shape
        assert module.v.shape == (BATCH, HEADS, KEYS, value_dim)
