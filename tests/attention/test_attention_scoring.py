"""RoPE, QK-norm and the soft cap, which every variant that calls `attend` can have."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hf_weights import additive, copy_projections, require_same
from oracles import oracle
from torch import Tensor, nn
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention, record_patterns, register_attention
from attnframe.attention import KeyValueCache, trace_attend
from attnframe.attention.functional import rotate

BATCH, TOKENS, D_MODEL, HEADS, KEY_HEADS = 3, 7, 48, 6, 2
HEAD_DIM = D_MODEL // HEADS
KEEP = torch.arange(TOKENS) < torch.tensor([TOKENS, 4, 5])[:, None]
ALL = {"rope": True, "rope_base": 500.0, "qk_norm": True, "softcap": 1.5}


def spread(module: nn.Module) -> None:
    """Weights as large as those of a trained module, gains among them."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)


def angles(base: float) -> tuple[Tensor, Tensor]:
    """(cos, sin) [1, tokens, head_dim], as Hugging Face's attention modules are given them."""
    turns = torch.tensor([base ** (-2 * i / HEAD_DIM) for i in range(HEAD_DIM // 2)], dtype=torch.float64)
    table = torch.outer(torch.arange(TOKENS), turns)
    table = torch.cat([table, table], dim=-1)[None]
    return table.cos().float(), table.sin().float()


def require_same_of_real_tokens(
    ours: Attention, theirs: nn.Module, mask: Mask, position_embeddings: tuple[Tensor, Tensor]
) -> None:
    def expected(x: Tensor) -> Tensor:
        given = {"position_embeddings": position_embeddings, "attention_mask": additive(mask, x)}
        output: Tensor = theirs(hidden_states=x, **given)[0]
        return output[KEEP]

    require_same(lambda x: ours(x, x, x, mask)[KEEP], expected, batch=BATCH, length=TOKENS, d_model=D_MODEL)


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(11)


def test_rope_with_grouped_heads_is_that_of_llama() -> None:
    modeling = oracle("transformers.models.llama.modeling_llama")
    config = modeling.LlamaConfig(
        hidden_size=D_MODEL, num_attention_heads=HEADS, num_key_value_heads=KEY_HEADS, attn_implementation="eager"
    )
    ours = build_attention(
        "grouped_query", d_model=D_MODEL, num_heads=HEADS, bias=False, num_kv_heads=KEY_HEADS, rope=True
    ).eval()
    spread(ours)
    theirs = modeling.LlamaAttention(config, 0).eval()
    copy_projections(ours, theirs)
    require_same_of_real_tokens(ours, theirs, Mask(key_keep=KEEP, causal=True), angles(10000.0))


def test_qk_norm_before_rope_is_that_of_qwen3() -> None:
    modeling = oracle("transformers.models.qwen3.modeling_qwen3")
    config = modeling.Qwen3Config(
        hidden_size=D_MODEL,
        num_attention_heads=HEADS,
        num_key_value_heads=KEY_HEADS,
        head_dim=HEAD_DIM,
        num_hidden_layers=1,
        attn_implementation="eager",
    )
    ours = build_attention(
        "grouped_query",
        d_model=D_MODEL,
        num_heads=HEADS,
        bias=False,
        num_kv_heads=KEY_HEADS,
        qk_norm=True,
        rope=True,
        rope_base=1e6,
    ).eval()
    spread(ours)
    theirs = modeling.Qwen3Attention(config, 0).eval()
    copy_projections(ours, theirs)
    assert ours.scoring is not None
    theirs.q_norm.load_state_dict(ours.scoring.query_norm.state_dict())
    theirs.k_norm.load_state_dict(ours.scoring.key_norm.state_dict())
    require_same_of_real_tokens(ours, theirs, Mask(key_keep=KEEP, causal=True), angles(1e6))


def test_the_soft_cap_in_a_window_is_that_of_gemma2() -> None:
    modeling = oracle("transformers.models.gemma2.modeling_gemma2")
    config = modeling.Gemma2Config(
        hidden_size=D_MODEL,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=HEAD_DIM,
        query_pre_attn_scalar=HEAD_DIM,
        attn_logit_softcapping=1.5,
        sliding_window=3,
        num_hidden_layers=1,
        attn_implementation="eager",
    )
    # Their window of 3 tokens is the query's own and the two before it.
    ours = build_attention(
        "sliding_window", d_model=D_MODEL, num_heads=HEADS, bias=False, window=2, num_global=0, softcap=1.5, rope=True
    ).eval()
    spread(ours)
    theirs = modeling.Gemma2Attention(config, 0).eval()
    assert theirs.sliding_window == 3
    copy_projections(ours, theirs)
    require_same_of_real_tokens(ours, theirs, Mask(key_keep=KEEP, causal=True, window=2), angles(10000.0))
    x = torch.randn(BATCH, TOKENS, D_MODEL)
    # The window is the variant's own, without the mask's as well.
    assert_close(ours(x, x, x, Mask(causal=True)), ours(x, x, x, Mask(causal=True, window=2)), rtol=1e-5, atol=1e-6)


def test_a_rotation_by_hand() -> None:
    x = torch.tensor([[1.0, 0.0, 0.0, 2.0]], dtype=torch.float64)
    # Pairs (0, 2) and (1, 3); at position 5 and base 4 they turn by 5 and by 5·4^(-1/2).
    expected = torch.tensor([[math.cos(5), -2 * math.sin(2.5), math.sin(5), 2 * math.cos(2.5)]], dtype=torch.float64)
    assert_close(rotate(x, torch.tensor([5]), base=4.0), expected, rtol=0, atol=1e-12)


def test_rope_knows_distances_and_not_places() -> None:
    module = build_attention("multi_head", d_model=D_MODEL, num_heads=HEADS, rope=True).double().eval()
    spread(module)
    before, x = torch.randn(BATCH, 5, D_MODEL).double(), torch.randn(BATCH, TOKENS, D_MODEL).double()
    whole = torch.cat([before, x], dim=1)
    hidden = torch.arange(whole.shape[1]).expand(BATCH, -1) >= before.shape[1]
    later = module(whole, whole, whole, Mask(key_keep=hidden))[:, before.shape[1] :]
    assert_close(later, module(x, x, x), rtol=0, atol=1e-10)
    backwards = module(x.flip(1), x.flip(1), x.flip(1)).flip(1)
    assert (later - backwards).abs().max() > 1e-2


def test_qk_norm_makes_the_size_of_queries_and_keys_nothing() -> None:
    module = build_attention("multi_head", d_model=D_MODEL, num_heads=HEADS, bias=False, qk_norm=True).double().eval()
    x = torch.randn(BATCH, TOKENS, D_MODEL).double()
    output = module(x, x, x)
    with torch.no_grad():
        module.query_proj.weight.mul_(900.0)
        module.key_proj.weight.mul_(70.0)
    assert_close(module(x, x, x), output, rtol=0, atol=1e-4)


def test_the_soft_cap_by_hand() -> None:
    """Scores of 6 and 0 under a cap of 2: 2·tanh(3) and 0."""
    module = build_attention("multi_head", d_model=2, num_heads=1, bias=False, softcap=2.0).double().eval()
    with torch.no_grad():
        for linear in (module.query_proj, module.key_proj, module.value_proj, module.output_proj):
            linear.weight.copy_(torch.eye(2))
    query = torch.tensor([[[6.0 * math.sqrt(2), 0.0]]], dtype=torch.float64)
    keys = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]], dtype=torch.float64)
    weight = 1 / (1 + math.exp(-2 * math.tanh(3)))
    expected = torch.tensor([[[weight, 1 - weight]]], dtype=torch.float64)
    with record_patterns(module) as patterns:
        assert_close(module(query, keys, keys), expected, rtol=0, atol=1e-12)
    assert_close(patterns["", 0].weights[0], expected, rtol=0, atol=1e-12)


def test_every_variant_takes_them_and_decodes_with_them_or_says_why_not(variant_name: str) -> None:
    plain = build_attention(variant_name, d_model=D_MODEL, num_heads=HEADS)
    if not trace_attend(plain, d_model=D_MODEL, d_context=D_MODEL):
        for option in ("rope", "qk_norm", "softcap"):
            with pytest.raises(UserError, match=rf"{option}=(true|1\.5) acts in attend, and .* computes its attention"):
                build_attention(variant_name, d_model=D_MODEL, num_heads=HEADS, **{option: ALL[option]})
        return
    module = build_attention(variant_name, d_model=D_MODEL, num_heads=HEADS, **ALL).double().eval()
    spread(module)
    x = torch.randn(BATCH, TOKENS, D_MODEL).double()
    whole = module(x, x, x, Mask(causal=True))
    module.scoring, scoring = None, module.scoring
    if variant_name != "uniform":  # it has no scores that could change
        assert (module(x, x, x, Mask(causal=True)) - whole).abs().max() > 1e-3
    module.scoring = scoring
    if not module.can_be_cached:
        return
    cache, outputs = KeyValueCache([module]), []
    for start, end in itertools.pairwise((0, 1, 2, 5, TOKENS)):
        new = x[:, start:end]
        with cache.attached():
            outputs.append(module(new, new, new, Mask(causal=True, query_offset=start, key_offset=start)))
    assert_close(torch.cat(outputs, dim=1), whole, rtol=0, atol=1e-10)


def test_they_change_no_type_under_autocast(backend_name: str) -> None:
    options = ALL if backend_name == "eager" else ALL | {"softcap": None}
    module = build_attention("multi_head", d_model=D_MODEL, num_heads=HEADS, backend=backend_name, **options)
    x = torch.randn(BATCH, TOKENS, D_MODEL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = module(x, x, x)
    assert narrow.dtype == torch.bfloat16
    assert_close(narrow.float(), module(x, x, x), rtol=0, atol=3e-2)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"rope": True}, "rope=true turns pairs of dimensions, and head_dim=11 is odd"),
        ({"rope": True, "rope_base": 1.0}, "rope_base=1 must be a number above 1"),
        ({"rope": True, "rope_base": float("nan")}, "option rope_base=nan is no float"),
        ({"softcap": 0.0}, "softcap=0 must be a number above 0"),
        ({"softcap": float("inf")}, "softcap=inf must be a number above 0"),
        ({"softcap": "5"}, "option softcap='5' is no float | None"),
        ({"softcap": 5.0, "backend": "sdpa"}, "backend=sdpa cannot run this: sdpa has no score_mod; backend=eager can"),
    ],
)
def test_what_cannot_be_is_said(options: dict[str, object], sentence: str) -> None:
    width = 22 if options == {"rope": True} else 24
    with pytest.raises(UserError) as refusal:
        build_attention("multi_head", d_model=width, num_heads=2, **options)
    assert sentence in str(refusal.value)


def test_a_variant_cannot_have_an_option_of_that_name() -> None:
    with pytest.raises(UserError, match="every variant has an option 'softcap'; call this one otherwise"):

        @register_attention("capped")
        class Capped(Attention):
            def __init__(self, d_model: int, *, softcap: float = 3.0) -> None:
                super().__init__()
