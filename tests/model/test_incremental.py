"""Next-token probabilities, with a cache and without: what a teacher-forced pass over the whole prefix says."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from small_translator import LAYERS, LENGTHS, make_model, next_log_probabilities, sources
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import (
    Attention,
    Mask,
    UserError,
    build_attention,
    discovery,
    masked_softmax,
    merge_heads,
    record_patterns,
    register_attention,
    registry,
    split_heads,
)
from attnframe.data.tokenizer import BOS
from attnframe.model import SITES, IncrementalDecoder, Seq2Seq, beam_search, greedy

PLUGINS = Path(__file__).parents[2] / "plugins"
NAMES = [*registry.variants(), *sorted(file.stem for file in PLUGINS.glob("[!_]*.py"))]

# Which rows go on after each step: all, each twice, beams that change places, sentences that leave, one for another.
MOVES = (
    (0, 1, 2, 3, 4, 5, 6),
    (0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6),
    (1, 0, 3, 3, 4, 5, 7, 6, 8, 8, 11, 10, 13, 12),
    (2, 3, 4, 5, 13, 12),
    (4, 4, 1, 0, 2, 5),
    (5, 5, 0),
    (2, 1),
)


@pytest.fixture(params=NAMES)
def any_name(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each core variant and each example plugin; skips one that refuses a causal mask, which no decoder is without."""
    monkeypatch.setenv(discovery.FOLDERS_VARIABLE, str(PLUGINS))
    discovery.load_plugins()
    x = torch.zeros(1, 2, 22)
    try:
        build_attention(request.param, d_model=22, num_heads=2)(x, x, x, Mask(causal=True))
    except UserError as error:
        pytest.skip(str(error))
    return request.param


@torch.no_grad()
def check_every_step(model: Seq2Seq, src: Tensor, keep: Tensor | None, lengths: Sequence[int], cache: bool) -> None:
    """All of MOVES with words by chance, against each row on its own, unpadded and in full."""
    decoder = IncrementalDecoder(model, src, keep, cache=cache)
    rows: list[tuple[int, list[int]]] = [(sentence, []) for sentence in range(len(src))]
    torch.manual_seed(5)
    for move in (*MOVES, None):
        found = decoder.log_probabilities()
        expected = [next_log_probabilities(model, src[i, : lengths[i]], ids) for i, ids in rows]
        assert_close(found, torch.stack(expected), rtol=0, atol=1e-10)
        if move is not None:
            tokens = torch.randint(3, found.shape[1], (len(move),), device=src.device)
            decoder.advance(torch.tensor(move, device=src.device), tokens)
            rows = [(rows[i][0], [*rows[i][1], token]) for i, token in zip(move, tokens.tolist(), strict=True)]
        assert decoder.prefix.tolist() == [[BOS, *ids] for _, ids in rows]


def test_every_step_is_that_of_the_whole_prefix(any_name: str, backend_name: str, device: torch.device) -> None:
    model = make_model(any_name, backend=backend_name, device=device)
    src, keep = sources(device)
    check_every_step(model, src, keep, LENGTHS, cache=True)
    check_every_step(model, src, keep, LENGTHS, cache=False)
    check_every_step(model, sources(device, [5] * 7)[0], None, [5] * 7, cache=True)


def test_a_search_finds_the_same_with_a_cache(any_name: str, device: torch.device) -> None:
    src, keep = sources(device)
    limits = [11, 4, 7, 1, 11, 0, 9]
    for seed, source_keep in enumerate((keep, None)):
        model = make_model(any_name, device=device, seed=seed)
        one, other = (
            [[h] for h in greedy(model, src, source_keep, max_lengths=limits, cache=cache)]
            + beam_search(model, src, source_keep, beam_size=3, n_best=3, max_lengths=limits, cache=cache)
            for cache in (True, False)
        )
        assert [[h.ids for h in sentence] for sentence in one] == [[h.ids for h in sentence] for sentence in other]
        assert [h.log_probability for sentence in one for h in sentence] == pytest.approx(
            [h.log_probability for sentence in other for h in sentence], abs=1e-10
        )


def test_the_core_variants_are_cached(variant_name: str) -> None:
    assert make_model(variant_name).new_cache() is not None


class _Projected(Attention):
    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, d_model)
        self.key_proj = nn.Linear(d_model, d_model)
        self.value_proj = nn.Linear(d_model, d_model)

    def qkv(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        return q, k, split_heads(self.value_proj(value), self.num_heads)


class RunningMean(_Projected):
    """Each key is the mean of those up to it: new keys alone would be others."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        number = torch.arange(1, key.shape[1] + 1, device=key.device)[:, None]
        return merge_heads(self.attend(*self.qkv(query, key.cumsum(1) / number, value), mask))


class Additive(_Projected):
    """Own scores and no `attend` (Bahdanau et al. 2015, section A.1.2, https://arxiv.org/abs/1409.0473)."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        q, k, v = self.qkv(query, key, value)
        scores = torch.tanh(q.unsqueeze(3) + k.unsqueeze(2)).sum(-1)
        return merge_heads(masked_softmax(scores, mask.dense()) @ v)


class Overriding(registry.variants()["multi_head"].cls):  # type: ignore[misc]
    """A variant that can be cached, and keys that are the mean of two."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        before = nn.functional.pad(key, (0, 0, 1, 0))[:, :-1]
        return super().forward(query, (key + before) / 2, value, mask)


class Latent(Attention):
    """Keys and values from one narrow latent, which alone is kept.

    DeepSeek-AI 2024, section 2.1.2, https://arxiv.org/abs/2405.04434.
    """

    cacheable = True

    def __init__(self, d_model: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, num_heads * 5)
        self.down = nn.Linear(d_model, 3)
        self.key_up = nn.Linear(3, num_heads * 5)
        self.value_up = nn.Linear(3, num_heads * 11)
        self.output_proj = nn.Linear(num_heads * 11, d_model)

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
        latent = self.cached("latent", self.down(key))
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_up(latent), self.num_heads)
        v = split_heads(self.value_up(latent), self.num_heads)
        return self.output_proj(merge_heads(self.attend(q, k, v, mask)))


@pytest.mark.parametrize("idea", [RunningMean, Additive, Overriding, Latent], ids=lambda cls: cls.__name__)
def test_ideas_are_cached_or_recomputed(idea: type[Attention], backend_name: str, device: torch.device) -> None:
    register_attention("idea")(idea)
    model = make_model("idea", backend=backend_name, device=device)
    assert (model.new_cache() is not None) is (idea is Latent)
    src, keep = sources(device)
    check_every_step(model, src, keep, LENGTHS, cache=True)
    check_every_step(model, sources(device, [5] * 7)[0], None, [5] * 7, cache=True)


def test_these_checks_see_a_broken_promise() -> None:
    register_attention("idea")(RunningMean)
    model = make_model("idea")
    for module in model.modules():
        if isinstance(module, RunningMean):
            module.cacheable = True
    src, keep = sources(torch.device("cpu"))
    with pytest.raises(AssertionError, match="not close"):
        check_every_step(model, src, keep, LENGTHS, cache=True)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("layer", range(LAYERS))
def test_one_module_of_the_decoder_is_enough_to_recompute(site: str, layer: int, device: torch.device) -> None:
    register_attention("idea")(RunningMean)
    names = {each: ["multi_head", "cross"] for each in SITES}
    names[site][layer] = "idea"
    model = make_model(names, device=device)
    assert (model.new_cache() is None) is (site != "encoder_self")
    src, keep = sources(device)
    check_every_step(model, src, keep, LENGTHS, cache=True)


def test_layers_that_share_a_module_are_recomputed(device: torch.device) -> None:
    model = make_model("multi_head", device=device)
    model.decoder[1].self_attention = model.decoder[0].self_attention
    assert model.new_cache() is None
    src, keep = sources(device)
    check_every_step(model, src, keep, LENGTHS, cache=True)


def test_a_cached_step_reads_one_token_and_no_memory(device: torch.device) -> None:
    model = make_model("multi_head", device=device)
    src, keep = sources(device)
    read: list[tuple[int, int]] = []
    for module in (model.decoder[0].self_attention, model.decoder[1].cross_attention):
        module.register_forward_hook(lambda _, inputs, __: read.append((inputs[0].shape[1], inputs[1].shape[1])))
    greedy(model, src, keep, max_lengths=[3] * 7)
    assert read == [(1, 1), (1, 7), (1, 1), (1, 0), (1, 1), (1, 0)]
    read.clear()
    greedy(model, src, keep, max_lengths=[3] * 7, cache=False)
    assert read == [(1, 1), (1, 7), (2, 2), (2, 7), (3, 3), (3, 7)]


def test_several_tokens_at_once(device: torch.device) -> None:
    model = make_model("multi_head", device=device)
    src, keep = sources(device)
    tgt = torch.randint(3, 13, (7, 6), device=device)
    memory = model.encode(src, keep)
    cache = model.new_cache()
    assert cache is not None
    parts = [model.decode(part, memory, keep, cache) for part in tgt.split([1, 3, 2], dim=1)]
    assert cache.length == 6
    assert_close(torch.cat(parts, dim=1), model.decode(tgt, memory, keep), rtol=0, atol=1e-10)


def test_patterns_of_a_cached_step_are_the_last_rows(any_name: str, device: torch.device) -> None:
    model = make_model(any_name, device=device)
    src, keep = sources(device)
    tgt = torch.randint(3, 13, (7, 5), device=device)
    memory, cache = model.encode(src, keep), model.new_cache()
    if cache is None:
        pytest.skip(f"{any_name} does not promise that it can be cached")
    with record_patterns(model) as full:
        model.decode(tgt, memory, keep)
    for start in range(5):
        with record_patterns(model) as step:
            model.decode(tgt[:, start : start + 1], memory, keep, cache)
        for (site, layer), pattern in step.items():
            keys = start + 1 if site == "decoder_self" else 7
            expected = full[site, layer].weights[:, :, start : start + 1, :keys]
            assert_close(pattern.weights, expected, rtol=0, atol=1e-10)
        assert {site for site, _ in step} == {"decoder_self", "cross"}


def test_a_table_of_positions_grows_as_the_target_does(device: torch.device) -> None:
    model = make_model("multi_head", device=device)
    src, keep = sources(device)
    tgt = torch.randint(3, 13, (7, 150), device=device)
    memory, cache = model.encode(src, keep), model.new_cache()
    parts = [model.decode(part, memory, keep, cache) for part in tgt.split(30, dim=1)]
    assert_close(torch.cat(parts, dim=1), model.decode(tgt, memory, keep), rtol=0, atol=1e-10)
