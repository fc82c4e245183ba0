"""What a module keeps between calls: new keys alone must give what all keys would."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, merge_heads, record_patterns, register_attention, split_heads
from attnframe.attention import AttendCall, KeyValueCache, Observer

BATCH, TOKENS, D_MODEL, HEADS = 3, 7, 22, 2
CHUNKS = (1, 1, 3, 2)  # tokens that come at once
ROWS = torch.tensor([2, 0, 1])  # what becomes of the rows after each chunk
EXACT = {"rtol": 0.0, "atol": 1e-10}
Build = Callable[..., Attention]


class _Projected(Attention):
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
        return q, k, split_heads(self.value_proj(value), self.num_heads)


class Twice(_Projected):
    """The difference of two maps, each with its own keys and values, which must not be mixed."""

    cacheable = True

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = self.qkv(query, key, value)
        first = self.attend(q, k, v, mask)
        second = self.attend(q, k.flip(-1), v.flip(-1), mask)
        self.report_pattern(lambda one, other: one - other, "signed")
        return self.output_proj(merge_heads(first - 0.3 * second))


class Latent(Attention):
    """Keys and values from one narrow latent, which alone is kept.

    DeepSeek-AI 2024, section 2.1.2, https://arxiv.org/abs/2405.04434.
    """

    cacheable = True

    def __init__(self, d_model: int, num_heads: int, *, rank: int = 3) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, num_heads * 5)
        self.down = nn.Linear(d_model, rank)
        self.key_up = nn.Linear(rank, num_heads * 5)
        self.value_up = nn.Linear(rank, num_heads * 13)
        self.output_proj = nn.Linear(num_heads * 13, d_model)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        latent = self.cached("latent", self.down(key))
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_up(latent), self.num_heads)
        v = split_heads(self.value_up(latent), self.num_heads)
        return self.output_proj(merge_heads(self.attend(q, k, v, mask)))


class HalfLatent(Latent):
    """Keys from a latent, values of the plain kind: one kept by the variant and one by `attend`."""

    cacheable = True

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__(d_model, num_heads)
        self.value_proj = nn.Linear(d_model, num_heads * 13)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_up(self.cached("latent", self.down(key))), self.num_heads)
        v = split_heads(self.value_proj(value), self.num_heads)
        return self.output_proj(merge_heads(self.attend(q, k, v, mask)))


class Rotary(_Projected):
    """Queries and keys turned by an angle that grows with their position.

    Su et al. 2021, section 3.2, https://arxiv.org/abs/2104.09864, with one angle for the whole head.
    """

    cacheable = True

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = self.qkv(query, key, value)
        q, k = self.turn(q, mask.query_offset), self.turn(k, mask.key_offset)
        return self.output_proj(merge_heads(self.attend(q, k, v, mask)))

    def turn(self, x: Tensor, offset: int) -> Tensor:
        """Features in the second half of the pairs make up the imaginary part; an odd last one stays."""
        angle = 0.7 * (torch.arange(x.shape[2], dtype=x.dtype, device=x.device) + offset)[:, None]
        a, b, rest = x.split([5, 5, x.shape[-1] - 10], dim=-1)
        return torch.cat([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos(), rest], dim=-1)


class Sliding(_Projected):
    """The nearest tokens only: a mask that the variant changes."""

    cacheable = True

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        heads = self.attend(*self.qkv(query, key, value), dataclasses.replace(mask, window=1))
        return self.output_proj(merge_heads(heads))


class OneKeyHead(_Projected):
    """One key and value head for all query heads."""

    cacheable = True

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = self.qkv(query, key, value)
        return self.output_proj(merge_heads(self.attend(q, k[:, :1], v[:, 1:], mask)))


class Lying(_Projected):
    """Each key is the mean of those up to it, and yet it says that it can be cached."""

    cacheable = True

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = self.qkv(query, key, value)
        k = k.cumsum(2) / torch.arange(1, k.shape[2] + 1, device=k.device)[:, None]
        return self.output_proj(merge_heads(self.attend(q, k, v, mask)))


IDEAS = [Twice, Latent, HalfLatent, Rotary, Sliding, OneKeyHead]


def make(build: Build, idea: type[Attention], **arguments: object) -> Attention:
    register_attention(idea.__name__)(idea)
    return build(idea.__name__, d_model=D_MODEL, num_heads=HEADS, **arguments)


def embeddings(device: torch.device, tokens: int = TOKENS, seed: int = 11) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(BATCH, tokens, D_MODEL, dtype=torch.float64, device=device)


def in_chunks(module: Attention, x: Tensor) -> Tensor:
    """Self-attention to a growing sequence, a chunk at a time, whose rows change places after each chunk."""
    cache = KeyValueCache([module])
    place = torch.arange(BATCH)
    outputs, start = [], 0
    for chunk in CHUNKS:
        new = x[place, start : start + chunk]
        with cache.attached():
            output = module(new, new, new, Mask(causal=True, query_offset=start, key_offset=start))
        outputs.append(output[place.argsort()])
        cache.select(ROWS.to(x.device))
        place = place[ROWS]
        start += chunk
    return torch.cat(outputs, dim=1)


def onto_a_fixed_sequence(module: Attention, x: Tensor, context: Tensor, keep: Tensor | None) -> Tensor:
    """Cross-attention of the same chunks, where every key is there at the first one."""
    cache = KeyValueCache([], [module])
    place = torch.arange(BATCH)
    outputs, start = [], 0
    for chunk in CHUNKS:
        new = x[place, start : start + chunk]
        keys = context[:, :0] if start else context
        mask = Mask(
            key_keep=None if keep is None else keep[place],
            query_offset=start,
            key_offset=context.shape[1] if start else 0,
        )
        with cache.attached():
            output = module(new, keys, keys, mask)
        outputs.append(output[place.argsort()])
        cache.select(ROWS.to(x.device))
        place = place[ROWS]
        start += chunk
    return torch.cat(outputs, dim=1)


def check_against_all_keys(module: Attention, device: torch.device) -> None:
    x, context = embeddings(device), embeddings(device, tokens=5, seed=12)
    assert sum(CHUNKS) == TOKENS
    assert_close(in_chunks(module, x), module(x, x, x, Mask(causal=True)), **EXACT)
    keep = torch.tensor([[j < n for j in range(5)] for n in (3, 5, 0)], device=device)
    for padding in (None, keep):
        found = onto_a_fixed_sequence(module, x, context, padding)
        assert_close(found, module(x, context, context, Mask(key_keep=padding)), **EXACT)


def test_core_variants_give_with_a_cache_what_they_give_without(
    variant_name: str, backend_name: str, build: Build, device: torch.device
) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    assert module.can_be_cached
    check_against_all_keys(module, device)


@pytest.mark.parametrize("idea", IDEAS, ids=lambda cls: cls.__name__)
def test_so_do_ideas_that_keep_something_else(
    idea: type[Attention], backend_name: str, build: Build, device: torch.device
) -> None:
    module = make(build, idea, backend=backend_name)
    assert module.can_be_cached
    check_against_all_keys(module, device)


def test_these_checks_see_a_broken_promise(build: Build, device: torch.device) -> None:
    module, x = make(build, Lying), embeddings(device)
    assert (in_chunks(module, x) - module(x, x, x, Mask(causal=True)))[:, 1:].abs().amax((0, 2)).min() > 1e-4


def test_what_is_kept_of_each_token(build: Build, device: torch.device) -> None:
    """A latent in the place of k and v, which the first step cannot know; one key head where one is shared."""
    head_dim = D_MODEL // HEADS
    sizes = {Twice: 4 * D_MODEL, Latent: 3, HalfLatent: 3 + HEADS * 13, OneKeyHead: 2 * head_dim}
    for idea, size in sizes.items():
        module, x = make(build, idea), embeddings(device)
        cache = KeyValueCache([module])
        with cache.attached():
            for start in range(TOKENS):
                new = x[:, start : start + 1]
                module(new, new, new, Mask(causal=True, query_offset=start, key_offset=start))
                if start:
                    assert cache.elements == BATCH * (start + 1) * size, idea


def test_fixed_keys_are_projected_once(build: Build, device: torch.device) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS)
    tokens: list[int] = []
    module.key_proj.register_forward_hook(lambda _, inputs, __: tokens.append(inputs[0].shape[1]))
    onto_a_fixed_sequence(module, embeddings(device), embeddings(device, tokens=5), None)
    assert tokens == [5, 0, 0, 0]


class _Calls(Observer):
    def __init__(self) -> None:
        self.seen: list[AttendCall] = []

    def attended(self, module: Attention, call: AttendCall) -> None:
        self.seen.append(call)


@pytest.mark.of_attend
def test_recording_sees_every_key(variant_name: str, backend_name: str, build: Build, device: torch.device) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    x = embeddings(device)
    with record_patterns(module) as whole:
        module(x, x, x, Mask(causal=True))
    cache = KeyValueCache([module])
    for start in range(TOKENS):
        new, calls = x[:, start : start + 1], _Calls()
        with cache.attached(), record_patterns(module) as step, module.observed_by(calls):
            module(new, new, new, Mask(causal=True, query_offset=start, key_offset=start))
        expected = whole["", 0].weights[:, :, start : start + 1, : start + 1]
        assert_close(step["", 0].weights, expected, **EXACT)
        assert calls.seen
        for call in calls.seen:
            assert (call.k.shape[2], call.v.shape[2]) == (start + 1, start + 1)
            assert call.mask.shape == (BATCH, 1, start + 1)


def test_a_step_on_a_fused_kernel_needs_no_matrix(
    build: Build, device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One query at the last position sees every key, which the kernel is not told by a dense mask."""
    module, x = build("multi_head", d_model=D_MODEL, num_heads=HEADS, backend="sdpa"), embeddings(device)
    full = module(x, x, x, Mask(causal=True))
    monkeypatch.setattr(Mask, "dense", lambda mask: pytest.fail("a dense mask was built"))
    for queries in (1, TOKENS):
        start = TOKENS - queries
        assert_close(module(x[:, start:], x, x, Mask(causal=True, query_offset=start)), full[:, start:], **EXACT)


def test_two_batches_in_turn_do_not_meet(build: Build, device: torch.device) -> None:
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS)
    batches = [embeddings(device, seed=seed) for seed in (11, 12)]
    caches = [KeyValueCache([module]) for _ in batches]
    for start in range(3):
        for x, cache in zip(batches, caches, strict=True):
            new = x[:, start : start + 1]
            with cache.attached():
                output = module(new, new, new, Mask(causal=True, query_offset=start, key_offset=start))
            seen = x[:, : start + 1]
            assert_close(output, module(seen, seen, seen, Mask(causal=True))[:, start:], **EXACT)


def test_a_promise_is_not_inherited(build: Build) -> None:
    class Base(Attention):
        pass

    class Plain(Twice):
        pass

    class Changed(Twice):
        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            return super().forward(query, key.cumsum(1), value, mask)

    class Kept(Twice):
        cacheable = True

    assert not Attention.cacheable
    assert [cls.cacheable for cls in (Base, Plain, Changed, Kept, Twice)] == [False, False, False, True, True]
    assert not make(build, Changed).can_be_cached
    assert make(build, Kept).can_be_cached


def test_a_module_may_take_its_promise_back(build: Build) -> None:
    """For some of its options, say."""
    module = make(build, Twice)
    module.cacheable = False
    assert not module.can_be_cached
    assert make(build, Twice).can_be_cached


def test_attention_within_attention_is_not_cached(build: Build) -> None:
    class Nested(Attention):
        cacheable = True

        def __init__(self, d_model: int, num_heads: int) -> None:
            super().__init__()
            self.inner = Twice(d_model, num_heads)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            return self.inner(query, key, value, mask)

    module = make(build, Nested)
    assert not module.can_be_cached
    assert module.inner.can_be_cached


def test_new_keys_alone_are_refused_without_a_cache(build: Build, device: torch.device) -> None:
    module, x = build("multi_head", d_model=D_MODEL, num_heads=HEADS), embeddings(device)
    with pytest.raises(UserError, match=r"calls attend with 1 queries, 1 keys and 1 values .* \(3, 1, 5\)"):
        module(x[:, :1], x[:, :1], x[:, :1], Mask(causal=True, query_offset=4, key_offset=4))


def test_a_cache_that_has_not_seen_the_earlier_keys_is_refused(build: Build, device: torch.device) -> None:
    module, x = build("multi_head", d_model=D_MODEL, num_heads=HEADS), embeddings(device)
    cache = KeyValueCache([module])
    with cache.attached():
        module(x[:, :2], x[:, :2], x[:, :2], Mask(causal=True))
        for missing in (1, 3):
            with pytest.raises(UserError, match="calls attend with"):
                module(x[:, :1], x[:, :1], x[:, :1], Mask(query_offset=2 + missing, key_offset=2 + missing))


def test_the_same_name_twice_in_a_forward_is_refused(build: Build, device: torch.device) -> None:
    class Careless(Latent):
        cacheable = True

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            self.cached("latent", self.down(value))
            return super().forward(query, key, value, mask)

    module, x = make(build, Careless), embeddings(device)
    with pytest.raises(UserError, match=r"Careless: with cached\('latent', ...\) there are 3 tokens .* and 2 in"):
        in_chunks(module, x)


def test_a_module_keeps_nothing_of_its_own(build: Build, device: torch.device) -> None:
    module, x = build("multi_head", d_model=D_MODEL, num_heads=HEADS), embeddings(device)
    plain = module(x, x, x, Mask(causal=True))
    state = set(module.state_dict())
    cache = KeyValueCache([module])
    with cache.attached():
        module(x[:, :2], x[:, :2], x[:, :2], Mask(causal=True))
        assert set(module.state_dict()) == state
        for copied in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert torch.equal(copied(x, x, x, Mask(causal=True)), plain)
        assert cache.elements == BATCH * 2 * 2 * D_MODEL
    with pytest.raises(ZeroDivisionError), cache.attached():
        raise ZeroDivisionError
    assert torch.equal(module(x, x, x, Mask(causal=True)), plain)
    assert cache.elements == BATCH * 2 * 2 * D_MODEL
