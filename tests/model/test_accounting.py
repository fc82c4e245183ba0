from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from attnframe import Attention, Mask, UserError, register_attention, registry, split_heads
from attnframe.attention import KeyValueCache
from attnframe.backends import backends
from attnframe.model import SITES, AttentionFactory, Seq2Seq, VariantChoice
from attnframe.model.accounting import count_attention, count_seq2seq

HEADS, HEAD_DIM, LENGTH = 5, 7, 11
D_MODEL = HEADS * HEAD_DIM


def make_factory(name: str, *, encoder_d_model: int = D_MODEL, **changes: object) -> AttentionFactory:
    layers = {"encoder_self": 2, "decoder_self": 3, "cross": 3}
    factory = AttentionFactory(
        choices={site: (VariantChoice(name),) * layers[site] for site in SITES},
        d_model=D_MODEL,
        encoder_d_model=encoder_d_model,
        num_heads=HEADS,
    )
    return dataclasses.replace(factory, **changes)  # type: ignore[arg-type]


def gpt3(num_heads: int) -> AttentionFactory:
    return AttentionFactory(
        choices={"decoder_self": (VariantChoice("multi_head"),) * 96},
        d_model=12288,
        encoder_d_model=12288,
        num_heads=num_heads,
        bias=False,
    )


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("bias", [True, False])
def test_parameters_and_cache_are_those_of_built_modules(variant_name: str, bias: bool) -> None:
    factory = make_factory(variant_name, bias=bias)
    count = count_attention(factory, length=LENGTH)
    assert [site.site for site in count.sites] == list(SITES)
    for site in count.sites:
        built = [factory.build(site.site, layer) for layer in range(site.layers)]
        assert site.layers == len(factory.choices[site.site])
        assert site.parameters == sum(map(size, built))
        assert site.layer_parameters == size(built[0])
        takes_heads = "num_heads" in registry.variants()[variant_name].takes
        assert site.head_parameters * (HEADS if takes_heads else 1) == pytest.approx(site.layer_parameters)
        cache, x = KeyValueCache([built[0]]), torch.zeros(1, LENGTH, D_MODEL)
        with cache.attached():
            for start, new in ((0, x[:, :-1]), (LENGTH - 1, x[:, -1:])):
                built[0](new, new, new, Mask(causal=True, query_offset=start, key_offset=start))
        kept, rest = divmod(cache.elements, LENGTH)
        assert rest == 0
        if site.site == "encoder_self":
            assert (site.cache_per_token, site.cache_bytes_per_token) == (0, 0)
        elif built[0].can_be_cached:
            assert (site.cache_per_token, site.cache_bytes_per_token) == (kept * site.layers, 4 * kept * site.layers)
        else:
            assert site.cache_per_token is None
    assert count.attention_parameters == count.parameters == sum(site.parameters for site in count.sites)


def test_cross_attention_reads_the_width_of_the_encoder(variant_name: str) -> None:
    if "d_context" not in registry.variants()[variant_name].takes:
        with pytest.raises(UserError, match=r"cross: .*d_context=13"):
            count_attention(make_factory(variant_name, encoder_d_model=13, num_heads=1))
        return
    factory = make_factory(variant_name, encoder_d_model=13, num_heads=1)
    for site in count_attention(factory).sites:
        assert site.layer_parameters == size(factory.build(site.site, 0))


def test_flops_of_multi_head_by_hand() -> None:
    encoder, decoder, cross = count_attention(make_factory("multi_head"), length=LENGTH).sites
    # Four projections and two products with `length` keys, a multiply-add being two.
    per_layer = 2 * 4 * D_MODEL**2 + 2 * 2 * LENGTH * D_MODEL
    assert encoder.flops_per_token == 2 * per_layer
    assert decoder.flops_per_token == cross.flops_per_token == 3 * per_layer


def test_flops_of_a_cheaper_variant_by_hand() -> None:
    (_, decoder, _) = count_attention(make_factory("uniform"), length=LENGTH).sites
    assert decoder.flops_per_token == 3 * (2 * 2 * D_MODEL**2 + 2 * 2 * LENGTH * D_MODEL)


def test_cache_of_multi_head_by_hand() -> None:
    encoder, decoder, cross = count_attention(make_factory("multi_head")).sites
    assert (encoder.cache_per_token, decoder.cache_per_token, cross.cache_per_token) == (0, 6 * D_MODEL, 6 * D_MODEL)


@pytest.mark.parametrize(("num_heads", "a_head"), [(96, 6_291_456), (48, 12_582_912)])
def test_gpt3(num_heads: int, a_head: int) -> None:
    count = count_attention(gpt3(num_heads))
    (site,) = count.sites
    assert site.head_parameters == a_head
    assert site.layer_parameters == 603_979_776
    assert count.parameters == 57_982_058_496


def test_layers_of_one_site_may_differ() -> None:
    mixed = (VariantChoice("low_rank_v", {"rank": 2}), VariantChoice("self"), VariantChoice("low_rank_v", {"rank": 2}))
    factory = make_factory("multi_head")
    factory = dataclasses.replace(factory, choices={**factory.choices, "cross": mixed})
    count = count_attention(factory)
    low_rank, single = [site for site in count.sites if site.site == "cross"]
    assert (low_rank.variant, low_rank.layers, low_rank.options) == ("low_rank_v", 2, {"rank": 2})
    assert (single.variant, single.layers, single.heads) == ("self", 1, 1)
    assert low_rank.parameters + single.parameters == sum(size(factory.build("cross", layer)) for layer in range(3))


@pytest.mark.parametrize("vocabulary", [None, (17, 19)])
def test_a_whole_model(variant_name: str, vocabulary: tuple[int, int] | None) -> None:
    factory = make_factory(variant_name)
    layers = {"num_encoder_layers": 2, "num_decoder_layers": 3, "d_ff": 23}
    count = count_seq2seq(factory, **layers, vocabulary=vocabulary, length=LENGTH)
    model = Seq2Seq(src_vocab_size=17, tgt_vocab_size=19, attention=factory, dropout=0.0, **layers)
    parts = {part.name: part for part in count.parts}
    assert parts["feed-forward"].flops_per_token == 5 * 2 * 2 * 23 * D_MODEL
    if vocabulary is None:
        assert "embeddings" not in parts
        assert count.embedding_widths == (D_MODEL, D_MODEL)
        assert count.parameters == size(model) - (17 + 19) * D_MODEL
    else:
        assert count.embedding_widths is None
        assert parts["embeddings"].parameters == (17 + 19) * D_MODEL
        assert parts["embeddings"].flops_per_token == 2 * 19 * D_MODEL
        assert count.parameters == size(model)
    assert count.flops_per_token == count.attention_flops_per_token + sum(p.flops_per_token for p in count.parts)


@pytest.mark.parametrize("backend", list(backends()))
def test_the_chosen_backend_does_not_change_a_count(variant_name: str, backend: str) -> None:
    factory = make_factory(variant_name)
    assert count_attention(dataclasses.replace(factory, backend=backend)) == count_attention(factory)


def test_key_heads_that_are_shared_are_kept_once() -> None:
    @register_attention("one_key_head")
    class OneKeyHead(Attention):
        """One key and value head for all query heads."""

        cacheable = True

        def __init__(self, d_model: int, num_heads: int) -> None:
            super().__init__()
            self.num_heads = num_heads
            self.key_proj = nn.Linear(d_model, d_model // num_heads)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            k = self.key_proj(key).unsqueeze(1)
            return self.attend(split_heads(query, self.num_heads), k, k, mask).transpose(1, 2).flatten(-2)

    (_, decoder, _) = count_attention(make_factory("one_key_head")).sites
    assert decoder.layer_cache == 2 * HEAD_DIM


def test_a_variant_that_never_calls_attend_is_recomputed() -> None:
    @register_attention("no_attend")
    class NoAttend(Attention):
        """V·W."""

        def __init__(self, d_model: int) -> None:
            super().__init__()
            self.value_proj = nn.Linear(d_model, d_model)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            return self.value_proj(value)

    count = count_attention(make_factory("no_attend"))
    assert [site.cache_per_token for site in count.sites] == [0, None, None]
    assert count.sites[1].cache_bytes_per_token is None
    assert count.attention_cache_per_token is None
    assert count.sites[1].flops_per_token == 3 * 2 * D_MODEL**2


def test_a_variant_that_does_not_promise_it_is_recomputed() -> None:
    @register_attention("unpromised")
    class Unpromised(Attention):
        """softmax(X·Cᵀ)·C."""

        def __init__(self, d_model: int) -> None:
            super().__init__()

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            return self.attend(query.unsqueeze(1), key.unsqueeze(1), value.unsqueeze(1), mask).squeeze(1)

    count = count_attention(make_factory("unpromised"))
    assert [site.cache_per_token for site in count.sites] == [0, None, None]


def test_what_a_variant_keeps_in_the_place_of_keys_and_values_is_counted() -> None:
    @register_attention("narrow")
    class Narrow(Attention):
        """Keys and values from a latent of 3 numbers, at two widths of embeddings."""

        cacheable = True

        def __init__(self, d_model: int, d_context: int) -> None:
            super().__init__()
            self.query_proj = nn.Linear(d_model, 5)
            self.down, self.up = nn.Linear(d_context or d_model, 3), nn.Linear(3, d_model)

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            latent = self.cached("latent", self.down(key))
            k, v = nn.functional.pad(latent, (0, 2)), self.up(latent)
            return self.attend(self.query_proj(query).unsqueeze(1), k.unsqueeze(1), v.unsqueeze(1), mask).squeeze(1)

    encoder, decoder, cross = count_attention(make_factory("narrow", encoder_d_model=15)).sites
    assert (encoder.layer_cache, decoder.layer_cache, cross.layer_cache) == (0, 3, 3)
    assert decoder.cache_per_token == 3 * 3


def test_a_variant_that_looks_at_numbers_is_refused_with_the_cause() -> None:
    @register_attention("looks")
    class Looks(Attention):
        """V, if it is small."""

        def __init__(self, d_model: int) -> None:
            super().__init__()

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            return value if value.max().item() < 1 else torch.zeros_like(value)

    with pytest.raises(UserError, match=r"encoder_self: looks cannot be counted without weights"):
        count_attention(make_factory("looks"))


def test_a_length_below_one_is_refused() -> None:
    with pytest.raises(UserError, match="length=0"):
        count_attention(make_factory("multi_head"), length=0)
