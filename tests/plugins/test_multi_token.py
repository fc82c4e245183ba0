"""Multi-token attention against its formula by loops over kernel, queries and keys."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention, record_patterns
from attnframe.attention import PatternKind

BATCH, QUERIES, KEYS, D_MODEL, HEADS = 3, 5, 7, 12, 4
SIZE = D_MODEL // HEADS
KEEP = torch.arange(KEYS) < torch.tensor([[4], [KEYS], [0]])
MASKS = {
    "open": Mask(),
    "causal": Mask(causal=True),
    "padded": Mask(key_keep=KEEP),
    "window": Mask(window=1),
    "all": Mask(key_keep=KEEP, causal=True, query_offset=2),
}


def by_loops(module: Attention, query: Tensor, context: Tensor, mask: Mask, mixed: int) -> Tensor:
    q, k, v = (
        projection(x).unflatten(-1, (HEADS, SIZE))
        for projection, x in ((module.query_proj, query), (module.key_proj, context), (module.value_proj, context))
    )
    dense = mask.bind(BATCH, QUERIES, KEYS).dense()[:, 0].tolist()
    _, back, width = module.kernel.shape
    rows = []
    for b in range(BATCH):
        for i in range(QUERIES):
            seen = [j for j in range(KEYS) if dense[b][i][j]]
            weights: list[dict[int, Tensor]] = []
            for h in range(HEADS):
                numerators = {}
                for j in seen:
                    score = torch.zeros((), dtype=torch.float64)
                    for up in range(min(back, i + 1)):
                        for aside in range(width):
                            other = j + aside - width // 2
                            if other in seen and dense[b][i - up][other]:
                                product = q[b, i - up, h] @ k[b, other, h] / SIZE**0.5
                                score = score + module.kernel[h, up, aside] * product
                    numerators[j] = score.exp()
                weights.append({j: one / sum(numerators.values()) for j, one in numerators.items()})
            heads = []
            for h in range(HEADS):
                group, place = divmod(h, mixed)
                head = torch.zeros(SIZE, dtype=torch.float64)
                for j in seen:
                    for other in range(mixed):
                        weight = module.head_mix[group, place, other] * weights[group * mixed + other][j]
                        head = head + weight * v[b, j, h]
                heads.append(head)
            rows.append(module.output_proj(torch.cat(heads)))
    return torch.stack(rows).view(BATCH, QUERIES, D_MODEL)


def inputs() -> tuple[Tensor, Tensor]:
    torch.manual_seed(11)
    return (
        torch.randn(BATCH, QUERIES, D_MODEL, dtype=torch.float64, requires_grad=True),
        torch.randn(BATCH, KEYS, D_MODEL, dtype=torch.float64, requires_grad=True),
    )


@pytest.mark.parametrize(("query_kernel", "key_kernel", "mixed_heads"), [(2, 3, 2), (3, 4, None)])
@pytest.mark.parametrize("kind", MASKS)
def test_it_is_the_formula(
    kind: str, query_kernel: int, key_kernel: int, mixed_heads: int | None, build: Callable[..., Attention]
) -> None:
    options = {"query_kernel": query_kernel, "key_kernel": key_kernel, "mixed_heads": mixed_heads}
    module = build("multi_token", d_model=D_MODEL, num_heads=HEADS, **options)
    query, context = inputs()
    output = module(query, context, context, MASKS[kind])
    expected = by_loops(module, query, context, MASKS[kind], mixed_heads or HEADS)
    assert_close(output, expected, rtol=0, atol=1e-12)
    cotangent = torch.randn_like(output)
    variables = [query, context, *module.parameters()]
    for one, other in zip(
        torch.autograd.grad(output, variables, cotangent),
        torch.autograd.grad(expected, variables, cotangent),
        strict=True,
    ):
        assert_close(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("kind", MASKS)
def test_a_new_one_is_multi_head(kind: str) -> None:
    module = build_attention("multi_token", d_model=D_MODEL, num_heads=HEADS).double()
    plain = build_attention("multi_head", d_model=D_MODEL, num_heads=HEADS).double()
    state = {name: x for name, x in module.state_dict().items() if name not in ("kernel", "head_mix")}
    plain.load_state_dict(state)
    query, context = inputs()
    mask = MASKS[kind]
    assert_close(module(query, context, context, mask), plain(query, context, context, mask), rtol=0, atol=1e-12)


def test_a_score_may_come_from_two_tokens(build: Callable[..., Attention]) -> None:
    """A kernel that moves each score one key on: what scored at key j now weighs key j + 1."""
    module = build("multi_token", d_model=D_MODEL, num_heads=HEADS, query_kernel=1, key_kernel=3)
    with torch.no_grad():
        module.head_mix.copy_(torch.eye(HEADS)[None])
        module.kernel.zero_()
        module.kernel[:, 0, 0] = 1.0
        module.query_proj.weight.zero_()
        module.query_proj.bias.copy_(40 * module.key_proj(torch.ones(D_MODEL, dtype=torch.float64)))
    x = -torch.ones(1, KEYS, D_MODEL, dtype=torch.float64)
    x[:, 3] = 1.0
    with record_patterns(module) as patterns:
        module(x, x, x)
    assert patterns["", 0].weights.argmax(-1).unique().tolist() == [4]


def test_its_pattern_may_be_negative(build: Callable[..., Attention]) -> None:
    module = build("multi_token", d_model=D_MODEL, num_heads=HEADS)
    query, context = inputs()
    with record_patterns(module) as patterns:
        module(query, context, context)
    assert patterns["", 0].kind is PatternKind.SIGNED
    assert (patterns["", 0].weights < 0).any()


def test_it_is_not_cached() -> None:
    assert not build_attention("multi_token", d_model=D_MODEL, num_heads=HEADS).can_be_cached


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"query_kernel": 0}, r"query_kernel=0 must be at least 1 token"),
        ({"key_kernel": -2}, r"key_kernel=-2 must be at least 1 token"),
        ({"mixed_heads": 3}, r"mixed_heads=3 must divide num_heads=4 \(null means all of them\)"),
    ],
)
def test_illegal_sizes_are_refused(options: dict[str, int], words: str) -> None:
    with pytest.raises(UserError, match=words):
        build_attention("multi_token", d_model=D_MODEL, num_heads=HEADS, **options)
