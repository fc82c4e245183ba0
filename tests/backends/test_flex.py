"""FlexAttention: what only it does, and the part of its agreement with the formula that is quick to compile."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask
from torch.testing import assert_close

from attnframe import Mask, UserError, build_attention, discovery
from attnframe.attention import settle_backend, trace_attend
from attnframe.attention.capability import plain_request
from attnframe.backends import BackendError, Flex, MaskMod, resolve
from attnframe.backends.block_masks import block_mask, blocks

D_MODEL, HEADS = 15, 3

MASKS = {
    "causal": Mask(causal=True),
    "causal_offset": Mask(causal=True, query_offset=131),
    "window": Mask(window=5),
    "wide_window": Mask(window=257, query_offset=3),
    "window_causal": Mask(causal=True, window=130, query_offset=70),
}
LENGTHS = [(1, 300), (127, 129), (128, 256), (257, 128), (300, 301)]


def structure(mask: Mask, batch: int) -> MaskMod:
    """The same as `mask.dense`, written for one pair of indices."""

    def kept(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return dense[b, 0, i, j]

    dense = mask.dense()
    return kept


def block_table(numbers: Tensor, indices: Tensor) -> Tensor:
    """Bool[batch, q_blocks, kv_blocks] of FlexAttention's lists of blocks."""
    table = torch.zeros(indices.shape, dtype=torch.bool)
    for place in torch.cartesian_prod(*(torch.arange(n) for n in numbers.shape)).reshape(-1, 3).tolist():
        table[*place, indices[*place, : numbers[*place]].long()] = True
    return table[:, 0]


@pytest.mark.parametrize("padded", [False, True], ids=["all_keys", "padded"])
@pytest.mark.parametrize(("queries", "keys"), LENGTHS)
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_blocks_are_those_of_the_dense_mask(mask: Mask, queries: int, keys: int, padded: bool) -> None:
    batch = 3
    if padded:
        generator = torch.Generator().manual_seed(keys)
        keep = torch.arange(keys) < torch.tensor([0, keys // 2, keys])[:, None]
        keep[1] &= torch.rand(keys, generator=generator) < 0.5
        mask = dataclasses.replace(mask, key_keep=keep)
    mask = mask.bind(batch, queries, keys)
    # FlexAttention's own, from a look at every pair.
    whole = create_block_mask(structure(mask, batch), batch, None, queries, keys, device="cpu")
    expected_full = block_table(whole.full_kv_num_blocks, whole.full_kv_indices)
    expected_some = block_table(whole.kv_num_blocks, whole.kv_indices) | expected_full
    some, full = (table.expand(batch, -1, -1) for table in blocks(mask, torch.device("cpu")))
    assert (some >= expected_some).all(), "a block that the mask keeps is skipped"
    assert (full <= expected_full).all(), "a block of which the mask hides a part is taken whole"
    if not padded:
        assert_close(some, expected_some)
        assert_close(full, expected_full)
    ours = block_mask(mask, None, torch.device("cpu"))
    if ours is None:
        assert mask.dense().all()
        return
    index = torch.meshgrid(
        torch.arange(batch), torch.arange(1), torch.arange(queries), torch.arange(keys), indexing="ij"
    )
    assert_close(ours.mask_mod(*index), mask.dense())
    listed = [
        block_table(ours.kv_num_blocks, ours.kv_indices),
        block_table(ours.full_kv_num_blocks, ours.full_kv_indices),
    ]
    assert not (listed[0] & listed[1]).any()
    assert_close((listed[0] | listed[1]).expand(batch, -1, -1), some)


def test_the_layers_that_share_a_bound_mask_share_its_blocks() -> None:
    mask = Mask(causal=True).bind(2, 5, 7)
    device = torch.device("cpu")
    assert block_mask(mask, None, device) is block_mask(mask, None, device)
    assert block_mask(Mask().bind(2, 5, 7), None, device) is None
    assert block_mask(Mask(causal=True, query_offset=6).bind(2, 1, 7), None, device) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"trains": True}, "cannot train"),
        ({"dropout": 0.1}, "dropout"),
        ({"normaliser": True}, "normaliser"),
        ({"dtype": torch.float64}, "float64"),
        ({"device": "meta"}, "none for meta"),
        ({"device": "cuda", "head_dim": 15}, "head_dim of at least 16"),
        ({"device": "cuda", "value_dim": 8}, "value_dim of at least 16"),
    ],
    ids=str,
)
def test_what_it_declines(change: dict[str, object], reason: str) -> None:
    wanted = dataclasses.replace(plain_request("cpu"), trains=False)
    assert Flex().unsupported(wanted) == []
    assert [said for said in Flex().unsupported(dataclasses.replace(wanted, **change)) if reason in said]


def test_without_a_compiler_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnframe.backends.flex._HAS_COMPILER", False)
    (reason,) = Flex().unsupported(dataclasses.replace(plain_request("cpu"), trains=False))
    assert "C++ compiler" in reason


def test_auto_never_takes_it_and_says_why() -> None:
    wanted = dataclasses.replace(plain_request("cpu"), trains=False, score_mod=("function",))
    assert Flex().unsupported(wanted) == []
    resolution = resolve("auto", [wanted])
    assert resolution.backend.name == "eager"
    assert resolution.passed_over["flex"] == (Flex.only_by_name,)
    with pytest.raises(BackendError, match="backend=eager can"):
        resolve("sdpa", [wanted])


@pytest.mark.parametrize("variant", ["multi_head", "alibi"])
def test_on_a_cpu_it_is_built_to_evaluate_and_refused_to_train(variant: str) -> None:
    module = build_attention(variant, d_model=D_MODEL, num_heads=HEADS, backend="flex")
    (call,) = trace_attend(module, d_model=D_MODEL, d_context=D_MODEL)
    nearest = resolve("auto", [dataclasses.replace(call.request, trains=True)]).backend.name
    sentence = f"backend=flex cannot run this: flex has no backward pass on the CPU.*; backend={nearest} can"
    with pytest.raises(BackendError, match=sentence):
        settle_backend(module, d_model=D_MODEL, d_context=D_MODEL, trains=True)
    x = torch.zeros(1, 2, D_MODEL)
    with pytest.raises(BackendError, match=sentence):
        module(x, x, x)
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(BackendError, match=sentence):
        module(x.requires_grad_(), x, x)


def test_building_it_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def attend(*args: object, **how: object) -> Tensor:
        raise AssertionError("a model is built without being run on its backend")

    monkeypatch.setattr(Flex, "attend", attend)
    build_attention("multi_head", d_model=D_MODEL, num_heads=HEADS, backend="flex")


@pytest.mark.parametrize(
    "lengths",
    [((2, 5, 7), (3, 11, 13)), pytest.param(((2, 130, 140), (3, 197, 151), (1, 1, 149)), marks=pytest.mark.slow)],
    ids=["one_block", "several_blocks"],
)
def test_layers_and_lengths_share_a_kernel_and_give_what_eager_gives(lengths: tuple[tuple[int, int, int], ...]) -> None:
    from torch._dynamo.utils import counters

    torch.manual_seed(3)
    modules = [build_attention("alibi", d_model=D_MODEL, num_heads=HEADS, backend="flex").eval() for _ in range(2)]
    kernels = []
    with torch.no_grad():
        for batch, queries, keys in lengths:
            keep = torch.arange(keys) < torch.tensor([0, keys - 2, keys])[:batch, None]
            mask = Mask(key_keep=keep, causal=True, query_offset=queries % 3).bind(batch, queries, keys)
            for module in modules:
                query, key = torch.randn(batch, queries, D_MODEL), torch.randn(batch, keys, D_MODEL)
                output = module(query, key, key, mask)
                assert module.backends_used() == {"flex"}
                kernels.append(counters["stats"]["unique_graphs"])
                with module.set_apart():
                    assert_close(output, module(query, key, key, mask), rtol=0, atol=2e-6)
                assert_close(output[0], module.output_proj.bias.expand_as(output[0]), rtol=0, atol=0)
    assert kernels[1] == kernels[0], "another layer is another kernel"
    assert kernels[3] == kernels[0], "another length within a block is another kernel"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["relative_bias", "sliding_window", "grouped_query", "forgetting", "bigbird"])
def test_variants_with_functions_of_the_indices_give_what_eager_gives(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(discovery.FOLDERS_VARIABLE, str(Path(__file__).parents[2] / "plugins"))
    torch.manual_seed(5)
    module = build_attention(name, d_model=28, num_heads=4, backend="flex").eval()
    mask = Mask(key_keep=torch.arange(13) < torch.tensor([5, 0, 13])[:, None], causal=True, query_offset=2)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.4)
        query, key = torch.randn(3, 11, 28), torch.randn(3, 13, 28)
        output = module(query, key, key, mask)
        assert module.backends_used() == {"flex"}
        with module.set_apart():
            assert_close(output, module(query, key, key, mask), rtol=0, atol=1e-5)


@pytest.mark.slow
def test_decoding_token_by_token_compiles_no_kernel_for_each_token() -> None:
    from torch._dynamo.utils import counters

    torch.manual_seed(5)
    module = build_attention("alibi", d_model=28, num_heads=4, backend="flex").eval()
    x = torch.randn(3, 7, 28)
    with torch.no_grad():
        whole = module(x, x, x, Mask(causal=True))
        kernels = []
        for end in range(1, 8):
            step = module(x[:, end - 1 : end], x[:, :end], x[:, :end], Mask(causal=True, query_offset=end - 1))
            assert_close(step, whole[:, end - 1 : end], rtol=0, atol=1e-5)
            kernels.append(counters["stats"]["unique_graphs"])
    assert len(set(kernels)) == 1


@pytest.mark.slow
def test_what_cannot_be_compiled_is_one_sentence() -> None:
    def by_number(score: Tensor, batch: Tensor, head: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return score if kv_idx.item() > 3 else -score

    q = torch.zeros(1, 1, 2, 5)
    with torch.no_grad(), pytest.raises(UserError, match=r"flex cannot compile this attention: .*; backend=eager"):
        Flex().attend(
            q,
            q,
            q,
            Mask().bind(1, 2, 2),
            scale=1.0,
            dropout=0.0,
            score_mod=by_number,
            mask_mod=None,
            normaliser=None,
        )


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [(5, 7), (130, 140)], ids=str)
@pytest.mark.parametrize(
    "name", ["multi_head", "alibi", "relative_bias", "sliding_window", "grouped_query", "forgetting", "bigbird"]
)
def test_where_it_trains_its_gradients_are_those_of_eager(
    name: str, lengths: tuple[int, int], device: torch.device, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reasons := Flex().unsupported(plain_request(device.type)):
        pytest.skip("; ".join(reasons))
    monkeypatch.setenv(discovery.FOLDERS_VARIABLE, str(Path(__file__).parents[2] / "plugins"))
    torch.manual_seed(5)
    module = build_attention(name, d_model=68, num_heads=4, backend="flex").to(device)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.normal_(std=0.2)
    queries, keys = lengths
    keep = torch.arange(keys, device=device) < torch.tensor([keys - 2, 0, keys], device=device)[:, None]
    mask = Mask(key_keep=keep, causal=True, query_offset=2)
    query, key = (torch.randn(3, n, 68, device=device, requires_grad=True) for n in lengths)
    cotangent = torch.randn(3, queries, 68, device=device)
    wanted = [query, key, *module.parameters()]
    names = ["query", "key", *(of for of, _ in module.named_parameters())]

    def output_and_gradients() -> list[Tensor]:
        output = module(query, key, key, mask)
        return [output, *torch.autograd.grad(output, wanted, cotangent, allow_unused=True, materialize_grads=True)]

    found = output_and_gradients()
    assert module.backends_used() == {"flex"}
    with module.set_apart():
        expected = output_and_gradients()
    for of, one, other in zip(["output", *names], found, expected, strict=True):
        # The gradient of a key's bias is zero, and what is computed of it rounding.
        assert (one - other).norm() <= 2e-5 * other.norm() + 1e-4, of
