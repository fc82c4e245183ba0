"""BigBird: which keys a query sees, and that it is softmax attention to these."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention, record_patterns

D_MODEL, HEADS, LENGTH = 22, 2, 61


def seen_by(module: Attention, length: int, **mask: object) -> Tensor:
    """[heads, query, key]: where there is weight."""
    torch.manual_seed(5)
    x = torch.randn(1, length, D_MODEL, dtype=torch.float64)
    with record_patterns(module) as patterns:
        module(x, x, x, Mask(**mask))
    return patterns["", 0].weights[0] > 0


def expected_without_chance(length: int, window: int, num_global: int) -> Tensor:
    return torch.tensor(
        [[abs(i - j) <= window or i < num_global or j < num_global for j in range(length)] for i in range(length)]
    )


@pytest.mark.parametrize(("window", "num_global"), [(3, 2), (0, 0), (5, 0), (0, 3)])
def test_neighbours_and_global_tokens(window: int, num_global: int, build: Callable[..., Attention]) -> None:
    sizes = {"d_model": D_MODEL, "num_heads": HEADS}
    module = build("bigbird", window=window, num_global=num_global, num_random=0, **sizes)
    expected = expected_without_chance(LENGTH, window, num_global).expand(HEADS, -1, -1)
    assert torch.equal(seen_by(module, LENGTH), expected)
    assert torch.equal(seen_by(module, LENGTH, causal=True), expected.tril())


@pytest.mark.parametrize("num_random", [1, 3])
def test_each_token_is_linked_to_some_before_it_and_seen_in_turn(
    num_random: int, build: Callable[..., Attention]
) -> None:
    sizes = {"d_model": D_MODEL, "num_heads": HEADS}
    module = build("bigbird", window=0, num_global=0, num_random=num_random, **sizes)
    seen = seen_by(module, LENGTH)
    assert torch.equal(seen, seen.mT)
    back = seen.tril(-1).sum(-1)
    assert (back[:, 1:] >= 1).all()
    assert (back <= num_random).all()
    assert back.double().mean() > 0.85 * num_random  # fewer where two links are the same
    assert not torch.equal(seen[0], seen[1])


def test_links_are_spread_over_all_that_lies_before(build: Callable[..., Attention]) -> None:
    """Each of the ten tenths of what lies before a token has a tenth of the links."""
    module = build("bigbird", d_model=D_MODEL, num_heads=HEADS, num_random=1)
    position = torch.arange(1000, 21000)
    tenths = torch.stack([module._linked(torch.tensor(h), position, 0) * 10 // position for h in range(HEADS)])
    counts = torch.bincount(tenths.flatten(), minlength=10)
    expected = tenths.numel() / 10
    chi_squared = ((counts - expected) ** 2 / expected).sum()
    assert counts.shape == (10,)
    assert chi_squared < 27.9  # nine degrees of freedom, one in a thousand


def test_chance_is_the_seed_and_the_positions(build: Callable[..., Attention]) -> None:
    """Not the length, padding, random numbers of the process, or where a cached decoding stands."""
    sizes = {"d_model": D_MODEL, "num_heads": HEADS}
    module, same, other = (build("bigbird", link_seed=s, **sizes) for s in (0, 0, 1))
    seen = seen_by(module, LENGTH)
    assert torch.equal(seen_by(same, LENGTH), seen)
    assert not torch.equal(seen_by(other, LENGTH), seen)
    assert torch.equal(seen_by(module, LENGTH + 30)[:, :LENGTH, :LENGTH], seen)
    keep = torch.arange(LENGTH + 30)[None] < LENGTH
    assert torch.equal(seen_by(module, LENGTH + 30, key_keep=keep)[:, :LENGTH, :LENGTH], seen)
    x = torch.randn(1, LENGTH, D_MODEL, dtype=torch.float64)
    with record_patterns(module) as patterns:
        module(x[:, 41:44], x, x, Mask(causal=True, query_offset=41))
    assert torch.equal(patterns["", 0].weights[0] > 0, seen[:, 41:44].tril(41))


@pytest.mark.parametrize("causal", [True, False])
def test_it_is_softmax_attention_to_what_it_sees(
    causal: bool, backend_name: str, build: Callable[..., Attention]
) -> None:
    module = build("bigbird", d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    seen = seen_by(module, LENGTH, causal=causal)
    x = torch.randn(2, LENGTH, D_MODEL, dtype=torch.float64, requires_grad=True)
    output = module(x, x, x, Mask(causal=causal))
    size, heads = D_MODEL // HEADS, []
    for h in range(HEADS):
        part = slice(size * h, size * (h + 1))
        q, k, v = (projection(x)[..., part] for projection in (module.query_proj, module.key_proj, module.value_proj))
        numerators = torch.einsum("bqd,bkd->bqk", q, k).div(size**0.5).exp() * seen[h]
        heads.append(numerators / numerators.sum(-1, keepdim=True) @ v)
    expected = module.output_proj(torch.cat(heads, dim=-1))
    assert_close(output, expected, rtol=0, atol=1e-10)
    cotangent = torch.randn_like(output)
    for one, other in zip(
        torch.autograd.grad(output, [x, *module.parameters()], cotangent),
        torch.autograd.grad(expected, [x, *module.parameters()], cotangent),
        strict=True,
    ):
        assert_close(one, other, rtol=0, atol=1e-10)


def test_where_all_is_near_it_is_multi_head(build: Callable[..., Attention]) -> None:
    module = build("bigbird", d_model=D_MODEL, num_heads=HEADS, window=LENGTH)
    plain = build("multi_head", d_model=D_MODEL, num_heads=HEADS)
    plain.load_state_dict(module.state_dict())
    x = torch.randn(2, LENGTH, D_MODEL, dtype=torch.float64)
    assert_close(module(x, x, x), plain(x, x, x), rtol=0, atol=1e-10)


@pytest.mark.parametrize("option", ["window", "num_global", "num_random"])
def test_numbers_below_0_are_refused(option: str) -> None:
    with pytest.raises(UserError, match=f"{option}=-1 must be 0 or more"):
        build_attention("bigbird", d_model=D_MODEL, num_heads=HEADS, **{option: -1})
