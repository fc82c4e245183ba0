"""What the study note says of attention, held where no other test holds it, and the page that says where each is held.

The page is docs/note_to_code.md. The note writes E' = E + ΔE: attention moves embeddings.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import Attention, Mask, build_attention, record_patterns
from attnframe.attention import AttendCall, Observer, observe, trace_attend
from attnframe.cli import describe
from attnframe.data.sources import load_corpus
from attnframe.data.words import split_words
from attnframe.errors import UserError
from attnframe.model import SITES, AttentionFactory, Seq2Seq, VariantChoice
from attnframe.model.layers import DecoderLayer, Embedding, EncoderLayer

BATCH, LENGTH, KEYS, D_MODEL, HEADS, D_CONTEXT, D_FF = 2, 5, 11, 21, 3, 13, 29
HEAD_DIM = D_MODEL // HEADS
EXACT = {"rtol": 0.0, "atol": 1e-10}

Build = Callable[..., Attention]


def embeddings(device: torch.device, *shape: int, seed: int = 7) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(device)


# The note's example: "red" moves "dog".

RED, DOG = (1, 0, 2), (0, 1, 1)
W_DOWN = ((1, 0), (0, 1), (1, 1))  # v_red = (3, 2), v_dog = (1, 2)
W_UP = ((1, 0, -1), (0, 2, 1))  # V_red = (3, 4, -1), V_dog = (1, 4, 1)


@pytest.fixture
def red_dog(build: Build, backend_name: str, device: torch.device) -> Attention:
    """One head with d_k = 2, in which q_dog·k_red / √2 = ln 3 and every other score is 0."""
    module = build("self", d_model=3, num_heads=1, bias=False, head_dim=2, backend=backend_name)
    w_query = ((0.0, 0.0), (math.sqrt(2) * math.log(3), 0.0), (0.0, 0.0))  # q_red = (0, 0)
    w_key = ((1, 0), (0, 1), (0, 0))  # k_red = (1, 0), k_dog = (0, 1)
    matrices = {"query_proj": w_query, "key_proj": w_key, "value_proj": W_DOWN, "output_proj": W_UP}
    with torch.no_grad():
        for name, matrix in matrices.items():
            # A Linear holds the transpose of what multiplies a row vector from the right.
            getattr(module, name).weight.copy_(torch.tensor(matrix, dtype=torch.float64).T)
    return module


@pytest.mark.parametrize(
    ("causal", "weights", "moved"),
    [
        # Weights of red's row: 1/2, 1/2, or 1, 0 where it may not look ahead. Of dog's: e^(ln 3) : e^0 = 3 : 1.
        (False, ("1/2 1/2", "3/4 1/4"), ("3 4 2", "5/2 5 1/2")),
        (True, ("1 0", "3/4 1/4"), ("4 4 1", "5/2 5 1/2")),
    ],
)
def test_red_moves_dog_by_hand(
    red_dog: Attention, causal: bool, weights: tuple[str, str], moved: tuple[str, str], device: torch.device
) -> None:
    def exact(rows: tuple[str, str]) -> Tensor:
        numbers = [[float(Fraction(entry)) for entry in row.split()] for row in rows]
        return torch.tensor(numbers, dtype=torch.float64, device=device)

    e = torch.tensor([[RED, DOG]], dtype=torch.float64, device=device)
    with record_patterns(red_dog) as patterns:
        delta = red_dog(e, e, e, Mask(causal=causal))
    assert_close(patterns["", 0].weights[0, 0], exact(weights), **EXACT)
    assert_close((e + delta)[0], exact(moved), **EXACT)


def test_what_red_adds_to_dog_by_hand(red_dog: Attention, device: torch.device) -> None:
    e = torch.tensor([[RED, DOG]], dtype=torch.float64, device=device)
    with record_patterns(red_dog, contributions=True) as patterns:
        red_dog(e, e, e)
    added = patterns["", 0].contributions
    assert added is not None
    # Of dog's row: 3/4·‖(3, 4, -1)‖ and 1/4·‖(1, 4, 1)‖.
    by_hand = torch.tensor([0.75 * math.sqrt(26), 0.25 * math.sqrt(18)], dtype=torch.float64, device=device)
    assert_close(added[0, 0, 1], by_hand, **EXACT)


def test_the_softmax_is_of_the_scores_and_not_of_their_product_with_v(red_dog: Attention, device: torch.device) -> None:
    """Else every ΔE would be a row of numbers between 0 and 1 with the sum 1."""
    e = torch.tensor([[RED, DOG]], dtype=torch.float64, device=device)
    delta = red_dog(e, e, e)[0]
    assert delta.max() > 1
    assert delta.min() < 0
    assert_close(delta.sum(-1), torch.tensor([6.0, 6.0], dtype=torch.float64, device=device), **EXACT)


def test_the_shift_is_the_weighted_value_of_the_attended_token(
    build: Build, backend_name: str, device: torch.device
) -> None:
    """ΔE_i moves by weight_ij times W_V of what is added to token j, whatever E_i is."""
    module = build("self", d_model=D_MODEL, num_heads=1, head_dim=HEAD_DIM, backend=backend_name)
    e = embeddings(device, BATCH, LENGTH, D_MODEL)
    mask = Mask(causal=True)
    with record_patterns(module) as patterns:
        before = module(e, e, e, mask)
    w_v = module.output_proj.weight @ module.value_proj.weight  # the note's V, for column vectors
    addition = embeddings(device, D_MODEL, seed=8)
    for j in range(LENGTH):
        values = e.clone()
        values[:, j] += addition
        expected = patterns["", 0].weights[:, 0, :, j, None] * (w_v @ addition)
        assert_close(module(e, e, values, mask) - before, expected, **EXACT)


def test_scores_are_dot_products_and_not_cosines(build: Build, backend_name: str, device: torch.device) -> None:
    """Keys of three times the length give three times the scores; a cosine would not notice."""
    module = build("multi_head", d_model=D_MODEL, num_heads=HEADS, bias=False, backend=backend_name)
    query, context = embeddings(device, BATCH, LENGTH, D_MODEL), embeddings(device, BATCH, KEYS, D_MODEL, seed=8)

    def weights(keys: Tensor) -> Tensor:
        with record_patterns(module) as patterns:
            module(query, keys, context)
        return patterns["", 0].weights

    once, thrice = weights(context), weights(3 * context)
    assert_close(thrice, once**3 / (once**3).sum(-1, keepdim=True), **EXACT)
    assert (thrice - once).abs().max() > 0.01


# E' = E + ΔE in the layers of the model.


def without_feed_forward(layer: nn.Module) -> None:
    """Let the feed-forward add nothing, and give the norms weights that can be seen."""
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if name.startswith("feed_forward.3"):
                parameter.zero_()
            elif "norm" in name:
                parameter.normal_()


def normed(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """LayerNorm by its formula (Ba et al. 2016, https://arxiv.org/abs/1607.06450)."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.pow(2).mean(-1, keepdim=True) + norm.eps).sqrt() * norm.weight + norm.bias


def test_an_encoder_layer_adds_the_delta_of_the_normed_embeddings(
    variant_name: str, backend_name: str, build: Build, device: torch.device
) -> None:
    attention = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    layer = EncoderLayer(attention, D_MODEL, D_FF, dropout=0.1).to(device, torch.float64).eval()
    without_feed_forward(layer)
    x = embeddings(device, BATCH, LENGTH, D_MODEL)
    keep = torch.tensor([[True] * LENGTH, [True] * 3 + [False] * 2], device=device)
    e = normed(layer.self_norm, x)
    assert_close(layer(x, Mask(keep)) - x, attention(e, e, e, Mask(keep)), **EXACT)


def test_a_decoder_layer_adds_a_delta_of_itself_and_one_of_the_memory(
    variant_name: str, backend_name: str, build: Build, device: torch.device
) -> None:
    self_attention = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    cross = build("cross", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT, backend=backend_name)
    layer = DecoderLayer(self_attention, cross, D_MODEL, D_FF, dropout=0.1).to(device, torch.float64).eval()
    without_feed_forward(layer)
    x, memory = embeddings(device, BATCH, LENGTH, D_MODEL), embeddings(device, BATCH, KEYS, D_CONTEXT)
    causal, open_mask = Mask(causal=True), Mask()
    e = normed(layer.self_norm, x)
    first = x + self_attention(e, e, e, causal)
    second = first + cross(normed(layer.cross_norm, first), memory, memory, open_mask)
    assert_close(layer(x, memory, causal, open_mask), second, **EXACT)


def lone_head(module: Attention, head: int, build: Build) -> Attention:
    """Head number `head` of a multi_head module as a `self` module of its own, without the output bias."""
    rows = slice(HEAD_DIM * head, HEAD_DIM * (head + 1))
    lone = build("self", d_model=D_MODEL, num_heads=1, head_dim=HEAD_DIM, backend=module.backend)
    with torch.no_grad():
        for name in ("query_proj", "key_proj", "value_proj"):
            getattr(lone, name).weight.copy_(getattr(module, name).weight[rows])
            getattr(lone, name).bias.copy_(getattr(module, name).bias[rows])
        lone.output_proj.weight.copy_(module.output_proj.weight[:, rows])
        lone.output_proj.bias.zero_()
    return lone


def test_a_layer_adds_the_deltas_of_all_heads_and_one_bias(
    build: Build, backend_name: str, device: torch.device
) -> None:
    """E' = E + ΔE¹ + ... + ΔEⁿ + b, each ΔE from a module that knows of no other head."""
    attention = build("multi_head", d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    layer = EncoderLayer(attention, D_MODEL, D_FF, dropout=0.1).to(device, torch.float64).eval()
    without_feed_forward(layer)
    x = embeddings(device, BATCH, LENGTH, D_MODEL)
    e = normed(layer.self_norm, x)
    expected = x + attention.output_proj.bias
    for head in range(HEADS):
        expected = expected + lone_head(attention, head, build)(e, e, e)
    assert_close(layer(x, Mask()), expected, **EXACT)


def test_an_embedding_is_free_of_context_until_attention(build: Build, device: torch.device) -> None:
    torch.manual_seed(0)
    embedding = Embedding(17, D_MODEL, dropout=0.1).to(device, torch.float64).eval()
    attention = build("multi_head", d_model=D_MODEL, num_heads=HEADS)
    layer = EncoderLayer(attention, D_MODEL, D_FF, dropout=0.1).to(device, torch.float64).eval()
    big, red, dog = 5, 7, 11
    big_dog, red_dog = embedding(torch.tensor([[big, dog], [red, dog]], device=device))
    assert_close(big_dog[1], red_dog[1], rtol=0, atol=0)
    moved = layer(torch.stack([big_dog, red_dog]), Mask())
    assert (moved[0, 1] - moved[1, 1]).abs().max() > 0.01


# Sizes.


@pytest.mark.parametrize("tokens", [1, 7])
def test_q_and_k_of_a_head_are_small_and_its_v_is_a_large_matrix_of_two_thin_ones(tokens: int) -> None:
    """The note's shapes (128, 12288) are those of W_Q and W_K; Q and K have 128 numbers for each token."""
    with torch.device("meta"):
        head = build_attention("self", d_model=12288, num_heads=1, bias=False, head_dim=128)
    (call,) = trace_attend(head, d_model=12288, d_context=12288, length=tokens)
    assert head.query_proj.weight.shape == head.key_proj.weight.shape == (128, 12288)
    assert call.q.shape == call.k.shape == (1, 1, tokens, 128)
    assert call.scale == 1 / math.sqrt(128)
    assert head.output_proj.weight.shape == (12288, 128)
    assert head.value_proj.weight.shape == (128, 12288)
    assert (head.output_proj.weight @ head.value_proj.weight).shape == (12288, 12288)
    assert sum(parameter.numel() for parameter in head.parameters()) == 6_291_456


def test_gpt3_has_96_such_heads_side_by_side() -> None:
    with torch.device("meta"):
        layer = build_attention("multi_head", d_model=12288, num_heads=96, bias=False)
    (call,) = trace_attend(layer, d_model=12288, d_context=12288, length=7)
    assert call.q.shape == call.k.shape == call.v.shape == (1, 96, 7, 128)
    assert sum(parameter.numel() for parameter in layer.parameters()) == 96 * 6_291_456


@pytest.mark.parametrize(("name", "d_context"), [("self", D_MODEL), ("multi_head", D_MODEL), ("cross", D_CONTEXT)])
def test_the_value_map_of_a_head_has_the_rank_of_its_width(name: str, d_context: int, build: Build) -> None:
    options = {"head_dim": HEAD_DIM} if name == "self" else {}
    module = build(name, d_model=D_MODEL, num_heads=HEADS, d_context=d_context, **options)
    for head in range(1 if name == "self" else HEADS):
        rows = slice(HEAD_DIM * head, HEAD_DIM * (head + 1))
        value_map = module.output_proj.weight[:, rows] @ module.value_proj.weight[rows]
        assert value_map.shape == (D_MODEL, d_context)
        assert torch.linalg.matrix_rank(value_map) == HEAD_DIM < d_context


# Cross-attention.


class _CrossCalls(Observer):
    """The `attend` calls of the cross site, layer by layer."""

    def __init__(self) -> None:
        self.calls: list[AttendCall] = []

    def attended(self, module: Attention, call: AttendCall) -> None:
        if module.site == "cross":
            self.calls.append(call)


def test_queries_come_from_the_target_and_keys_and_values_from_the_source(device: torch.device) -> None:
    torch.manual_seed(0)
    factory = AttentionFactory({site: [VariantChoice("cross")] for site in SITES}, D_MODEL, D_CONTEXT, 1)
    sizes = {"num_encoder_layers": 1, "num_decoder_layers": 1, "d_ff": D_FF, "dropout": 0.1}
    model = Seq2Seq(src_vocab_size=17, tgt_vocab_size=19, attention=factory, **sizes).to(device).eval()  # type: ignore[arg-type]
    src, tgt = (torch.arange(4, 4 + length, device=device)[None] for length in (KEYS, LENGTH))

    def cross_call(source: Tensor, target: Tensor) -> AttendCall:
        log = _CrossCalls()
        with observe(model, log):
            model(source, None, target)
        (call,) = log.calls
        return call

    call = cross_call(src, tgt)
    assert call.q.shape == (1, 1, LENGTH, D_MODEL)
    assert call.k.shape == call.v.shape == (1, 1, KEYS, D_MODEL)
    other = cross_call(src.flip(1), tgt)
    assert torch.equal(other.q, call.q)
    assert not torch.equal(other.k, call.k)
    assert not torch.equal(other.v, call.v)
    other = cross_call(src, tgt.flip(1))
    assert not torch.equal(other.q, call.q)
    assert torch.equal(other.k, call.k)
    assert torch.equal(other.v, call.v)


def test_the_source_is_english_and_the_target_french() -> None:
    sizes = dict.fromkeys(("train_size", "val_size", "test_size", "held_out_size"), 31)
    corpus = load_corpus("grammar", **sizes)
    assert corpus.languages == ("en", "fr")
    source, target = (
        {word for pair in corpus.sets["train"] for word in split_words(getattr(pair, side))}
        for side in ("source", "target")
    )
    assert {"the", "not", "a"} & source - target
    assert {"les", "pas", "une"} & target - source


def test_a_weight_belongs_to_a_key_with_its_value(build: Build, backend_name: str, device: torch.device) -> None:
    """Keys and values in another order, both alike, change nothing; one of them alone changes everything."""
    module = build("cross", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT, backend=backend_name)
    query, context = embeddings(device, BATCH, LENGTH, D_MODEL), embeddings(device, BATCH, KEYS, D_CONTEXT, seed=8)
    before, turned = module(query, context, context), context.flip(1)
    assert_close(module(query, turned, turned), before, **EXACT)
    for key, value in ((context, turned), (turned, context)):
        assert (module(query, key, value) - before).abs().amax(-1).min() > 1e-3


@pytest.mark.parametrize("values", [LENGTH, KEYS + 2])
def test_values_of_the_querys_length_fit_no_weights(
    values: int, build: Build, backend_name: str, device: torch.device
) -> None:
    """The note's (Q_eng·K_fr)·V_eng: a row has one weight for each key, and these are as many as the other values."""
    module = build("cross", d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    query, key = embeddings(device, BATCH, LENGTH, D_MODEL), embeddings(device, BATCH, KEYS, D_MODEL)
    with pytest.raises(UserError, match="key and value the same length"):
        module(query, key, embeddings(device, BATCH, values, D_MODEL))


# The page.

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "note_to_code.md").read_text(encoding="utf-8")
MENTIONS = sorted(set(re.findall(r"`((?:attnframe|conf|docs|plugins|tests)/[\w./-]+(?:::[\w.]+)?)`", PAGE)))
SECTIONS = {title: body for title, _, body in (part.partition("\n") for part in PAGE.split("\n### ")[1:])}
COUNTS = re.findall(r"^\| `attnframe describe (.+?)` \| (.+?) \| (.+?) \| (.+?) \|$", PAGE, re.MULTILINE)


def defines(body: list[ast.stmt], names: list[str]) -> bool:
    """Whether the class or function with this dotted name is among the statements."""
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == names[0]:
            return len(names) == 1 or defines(node.body, names[1:])
    return False


@pytest.mark.parametrize("mention", MENTIONS)
def test_what_the_page_names_exists(mention: str) -> None:
    path, _, name = mention.partition("::")
    assert (ROOT / path).exists()
    if name:
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        assert defines(tree.body, name.split(".")), f"{path} defines no {name}"


@pytest.mark.parametrize("title", SECTIONS)
def test_each_statement_has_its_code_and_a_test(title: str) -> None:
    lines = {line.partition(":")[0]: line for line in SECTIONS[title].splitlines()}
    assert re.search(r"`(attnframe|conf)/", lines["- **Code**"])
    assert re.search(r"`tests/[\w/]+\.py::test_\w+`", lines["- **Test**"])


def test_the_page_has_statements_and_counts() -> None:
    assert len(SECTIONS) > 15
    assert len(COUNTS) > 2


@pytest.mark.parametrize("row", COUNTS, ids=lambda row: row[0])
def test_the_numbers_of_the_page_are_those_of_describe(
    row: tuple[str, ...], capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ATTNFRAME_LAUNCH", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")
    overrides, *numbers = row
    assert describe.main(overrides.split()) == 0
    _, site, _ = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert [site[5], site[4], site[3]] == numbers
