"""The encoder-decoder around any variant."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, record_patterns, register_attention, registry
from attnframe.attention import PatternKind
from attnframe.model import SITES, AttentionFactory, Seq2Seq, VariantChoice
from attnframe.model.layers import Embedding, sinusoids

SRC_VOCAB, TGT_VOCAB, D_MODEL, ENCODER_D_MODEL, HEADS = 31, 37, 22, 14, 2
ENCODER_LAYERS, DECODER_LAYERS = 2, 3

MakeModel = Callable[..., Seq2Seq]


@pytest.fixture
def make_model(device: torch.device) -> MakeModel:
    """A small model with one variant at every site, or with the `sites` given."""

    def make(
        name: str = "multi_head",
        encoder_d_model: int = D_MODEL,
        dtype: torch.dtype = torch.float64,
        sites: dict[str, VariantChoice] | None = None,
        **factory: object,
    ) -> Seq2Seq:
        torch.manual_seed(0)
        choices = {
            site: [(sites or {}).get(site, VariantChoice(name))]
            * (ENCODER_LAYERS if site == "encoder_self" else DECODER_LAYERS)
            for site in SITES
        }
        with torch.device(device):
            model = Seq2Seq(
                src_vocab_size=SRC_VOCAB,
                tgt_vocab_size=TGT_VOCAB,
                attention=AttentionFactory(choices, D_MODEL, encoder_d_model, HEADS, **factory),  # type: ignore[arg-type]
                num_encoder_layers=ENCODER_LAYERS,
                num_decoder_layers=DECODER_LAYERS,
                d_ff=29,
                dropout=0.1,
            )
        return model.to(dtype).eval()

    return make


def batch(device: torch.device) -> tuple[Tensor, Tensor, Tensor, list[int], list[int]]:
    """Padded source, its mask, padded target, and the true lengths."""
    torch.manual_seed(5)
    src_lengths, tgt_lengths = [7, 3, 1], [2, 5, 4]
    src = torch.randint(4, SRC_VOCAB, (3, 7), device=device)
    tgt = torch.randint(4, TGT_VOCAB, (3, 5), device=device)
    keep = torch.tensor([[j < n for j in range(7)] for n in src_lengths], device=device)
    for row, length in enumerate(tgt_lengths):
        tgt[row, length:] = 0
    return src.masked_fill(~keep, 0), keep, tgt, src_lengths, tgt_lengths


def test_padding_changes_nothing(
    variant_name: str, backend_name: str, make_model: MakeModel, device: torch.device
) -> None:
    model = make_model(variant_name, dtype=torch.float32, backend=backend_name)
    src, keep, tgt, src_lengths, tgt_lengths = batch(device)
    together = model(src, keep, tgt)
    assert together.shape == (3, 5, TGT_VOCAB)
    for row, (source, target) in enumerate(zip(src_lengths, tgt_lengths, strict=True)):
        alone = model(src[row : row + 1, :source], None, tgt[row : row + 1, :target])
        assert_close(together[row : row + 1, :target], alone, rtol=0, atol=1e-6)


def test_padding_sends_no_gradient(variant_name: str, make_model: MakeModel, device: torch.device) -> None:
    model = make_model(variant_name)
    src, keep, tgt, _, _ = batch(device)
    model(src, keep, tgt).pow(2).sum().backward()
    padding = model.src_embedding.token.weight.grad[0]
    assert_close(padding, torch.zeros_like(padding), rtol=0, atol=0)
    for name, parameter in model.named_parameters():
        # A variant that never reads its query leaves the norm before it without a gradient.
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_a_logit_never_sees_what_comes_after_it(
    variant_name: str, backend_name: str, make_model: MakeModel, device: torch.device
) -> None:
    model = make_model(variant_name, backend=backend_name)
    src, keep, tgt, _, _ = batch(device)
    before = model(src, keep, tgt)
    for position in range(tgt.shape[1]):
        changed = tgt.clone()
        changed[:, position] = (changed[:, position] + 1) % TGT_VOCAB
        after = model(src, keep, changed)
        assert_close(after[:, :position], before[:, :position], rtol=0, atol=1e-12)
        assert (after[:, position:] - before[:, position:]).abs().amax((0, 2)).min() > 1e-6


def test_the_source_is_read_both_ways(variant_name: str, make_model: MakeModel, device: torch.device) -> None:
    model = make_model(variant_name)
    src, keep, tgt, src_lengths, _ = batch(device)
    before = model(src, keep, tgt)
    for position in range(src.shape[1]):
        changed = src.clone()
        changed[:, position] = (changed[:, position] + 1) % SRC_VOCAB
        moved = (model(changed, keep, tgt) - before).abs().amax((1, 2)) > 1e-9
        assert moved.tolist() == [position < length for length in src_lengths]


def test_the_encoder_may_be_narrower(backend_name: str, make_model: MakeModel, device: torch.device) -> None:
    able = [name for name, variant in registry.variants().items() if "d_context" in variant.takes]
    assert able
    for name in able:
        model = make_model(sites={"cross": VariantChoice(name)}, encoder_d_model=ENCODER_D_MODEL, backend=backend_name)
        src, keep, tgt, _, _ = batch(device)
        assert model.encode(src, keep).shape == (3, 7, ENCODER_D_MODEL)
        assert model(src, keep, tgt).shape == (3, 5, TGT_VOCAB)


def test_a_variant_that_takes_one_width_is_refused_at_its_site(variant_name: str, make_model: MakeModel) -> None:
    if "d_context" in registry.variants()[variant_name].takes:
        make_model(variant_name, encoder_d_model=ENCODER_D_MODEL)
        return
    with pytest.raises(UserError, match=rf"^cross: {variant_name} takes keys and values of width d_model=22 only"):
        make_model(variant_name, encoder_d_model=ENCODER_D_MODEL)


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize(
    ("choice", "factory", "sentence"),
    [
        (VariantChoice("multi_heda"), {}, "there is no attention variant 'multi_heda'"),
        (VariantChoice("low_rank_v", {"rang": 3}), {}, "low_rank_v has no option 'rang': did you mean 'rank'"),
        (VariantChoice("low_rank_v", {"rank": 0}), {}, "rank=0 must lie between"),
        (
            VariantChoice("multi_head", {"rank": 3}),
            {},
            "multi_head has no option 'rank': known: qk_norm, rope, rope_base, softcap",
        ),
    ],
)
def test_an_error_begins_with_its_site(
    make_model: MakeModel, site: str, choice: VariantChoice, factory: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UserError, match=f"^{site}: {sentence}"):
        make_model(sites={site: choice}, **factory)


def test_an_unknown_backend_and_indivisible_heads_name_the_site_too(make_model: MakeModel) -> None:
    with pytest.raises(UserError, match=r"^encoder_self: there is no backend 'eagre'"):
        make_model(backend="eagre")
    with pytest.raises(UserError, match=r"^encoder_self: num_heads=2 does not divide d_model=13"):
        make_model(encoder_d_model=13)


def test_each_module_knows_its_place_and_gets_its_arguments(make_model: MakeModel, backend_name: str) -> None:
    seen: list[tuple[int, int | None, int, float, bool]] = []

    @register_attention("placed")
    class Placed(Attention):
        def __init__(
            self, d_model: int, num_heads: int, dropout: float, d_context: int | None, bias: bool, *, mark: int = 3
        ) -> None:
            super().__init__()
            seen.append((d_model, d_context, num_heads, dropout, bias))
            self.mark = mark

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            return torch.zeros_like(query)

    model = make_model(
        sites={"cross": VariantChoice("placed", {"mark": 5}), "encoder_self": VariantChoice("placed")},
        encoder_d_model=ENCODER_D_MODEL,
        dropout=0.25,
        bias=False,
        backend=backend_name,
    )
    encoder = (ENCODER_D_MODEL, None, HEADS, 0.25, False)
    cross = (D_MODEL, ENCODER_D_MODEL, HEADS, 0.25, False)
    assert sorted(seen, key=str) == sorted([encoder] * ENCODER_LAYERS + [cross] * DECODER_LAYERS, key=str)
    modules = [module for module in model.modules() if isinstance(module, Attention)]
    places = {(module.site, module.layer) for module in modules}
    assert len(places) == len(modules)
    layers = {"encoder_self": ENCODER_LAYERS, "decoder_self": DECODER_LAYERS, "cross": DECODER_LAYERS}
    assert places == {(site, layer) for site in SITES for layer in range(layers[site])}
    assert {module.attention_dropout for module in modules} == {0.25}
    assert {module.backend for module in modules} == {backend_name}
    assert {module.site: module.mark for module in modules if isinstance(module, Placed)} == {
        "cross": 5,
        "encoder_self": 3,
    }


def test_each_layer_may_have_its_own_variant() -> None:
    names = list(registry.variants())[:2]
    choices = {site: [VariantChoice(name) for name in names] for site in SITES}
    factory = AttentionFactory(choices, D_MODEL, D_MODEL, HEADS)
    for site in SITES:
        for layer, name in enumerate(names):
            assert isinstance(factory.build(site, layer), registry.variants()[name].cls)


def test_patterns_of_a_whole_model(
    variant_name: str, backend_name: str, make_model: MakeModel, device: torch.device
) -> None:
    model = make_model(variant_name, dtype=torch.float32, backend=backend_name)
    src, keep, tgt, _, _ = batch(device)
    plain = model(src, keep, tgt)
    with record_patterns(model) as patterns:
        assert torch.equal(model(src, keep, tgt), plain)
    assert [(site, len(patterns.layers(site))) for site in SITES] == [
        ("encoder_self", ENCODER_LAYERS),
        ("decoder_self", DECODER_LAYERS),
        ("cross", DECODER_LAYERS),
    ]
    for weights in patterns.layers("cross") + patterns.layers("encoder_self"):
        if patterns["cross", 0].kind is PatternKind.PROBABILITY:
            assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)), rtol=0, atol=1e-5)
        assert not weights.masked_select(~keep[:, None, None, :]).any()
    for weights in patterns.layers("decoder_self"):
        assert not weights.triu(1).any()


def test_state_dict_round_trip(variant_name: str, make_model: MakeModel, device: torch.device) -> None:
    model = make_model(variant_name)
    other = make_model(variant_name)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.1)
    src, keep, tgt, _, _ = batch(device)
    assert not torch.equal(model(src, keep, tgt), other(src, keep, tgt))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(src, keep, tgt), other(src, keep, tgt))


def test_output_is_tied_to_the_target_embedding(make_model: MakeModel, device: torch.device) -> None:
    model = make_model()
    assert [name for name, p in model.named_parameters() if TGT_VOCAB in p.shape] == ["tgt_embedding.token.weight"]
    src, keep, tgt, _, _ = batch(device)
    before = model(src, keep, tgt)
    with torch.no_grad():
        model.tgt_embedding.token.weight[TGT_VOCAB - 1] *= 2  # a token that is not in the input
    tgt_without = tgt.masked_fill(tgt == TGT_VOCAB - 1, 4)
    assert torch.equal(tgt, tgt_without)
    after = model(src, keep, tgt)
    assert_close(after[..., -1], 2 * before[..., -1], rtol=0, atol=1e-12)
    assert_close(after[..., :-1], before[..., :-1], rtol=0, atol=0)


def test_sinusoids_by_the_paper() -> None:
    length, d_model = 11, 7
    table = sinusoids(length, d_model)
    for position in range(length):
        for column in range(d_model):
            angle = torch.tensor(position / 10000 ** (2 * (column // 2) / d_model), dtype=torch.float64)
            expected = torch.sin(angle) if column % 2 == 0 else torch.cos(angle)
            assert abs(table[position, column].item() - expected.item()) < 1e-5


def test_a_sentence_may_be_longer_than_the_table(device: torch.device) -> None:
    embedding = Embedding(SRC_VOCAB, D_MODEL, dropout=0.0).to(device)
    short = torch.randint(SRC_VOCAB, (2, 5), device=device)
    before = embedding(short)
    long = embedding(short.repeat(1, 101))
    assert long.shape == (2, 505, D_MODEL)
    expected = sinusoids(505, D_MODEL).to(device)
    positions = long - embedding.token(short.repeat(1, 101)) * D_MODEL**0.5
    assert_close(positions, expected.expand(2, -1, -1), rtol=0, atol=1e-5)
    assert_close(embedding(short), before, rtol=0, atol=1e-6)
    assert list(embedding.state_dict()) == ["token.weight"]


def test_choices_and_factories_are_values() -> None:
    choice = VariantChoice("low_rank_v", {"rank": 2})
    assert choice == VariantChoice("low_rank_v", {"rank": 2})
    factory = AttentionFactory({site: [choice] for site in SITES}, D_MODEL, ENCODER_D_MODEL, HEADS)
    assert [factory.widths(site) for site in SITES] == [
        (ENCODER_D_MODEL, ENCODER_D_MODEL),
        (D_MODEL, D_MODEL),
        (D_MODEL, ENCODER_D_MODEL),
    ]
    with pytest.raises(dataclasses.FrozenInstanceError):
        factory.d_model = 3  # type: ignore[misc]
