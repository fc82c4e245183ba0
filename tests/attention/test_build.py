"""Building variants by name, and what becomes of a module afterwards."""

from __future__ import annotations

import copy
import enum
import io
import itertools
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from attnframe import Attention, Mask, UserError, build_attention, register_attention, registry
from attnframe.attention import Observer

D_MODEL, HEADS, D_CONTEXT = 22, 2, 13


class Colour(enum.Enum):
    """For an option."""

    RED = 1
    BLUE = 2


def test_every_variant_is_built_with_every_argument(variant_name: str, device: torch.device) -> None:
    takes = registry.variants()[variant_name].takes
    names = {}
    for bias, dropout in itertools.product((True, False), (0.0, 0.1)):
        module = build_attention(
            variant_name,
            d_model=D_MODEL,
            num_heads=HEADS,
            dropout=dropout,
            bias=bias,
            d_context=D_CONTEXT if "d_context" in takes else None,
        )
        names[bias] = {name for name, _ in module.named_parameters()}
        query = torch.randn(3, 5, D_MODEL)
        context = torch.randn(3, 7, D_CONTEXT if "d_context" in takes else D_MODEL)
        assert module(query, context, context).shape == query.shape
    assert names[False] < names[True] if "bias" in takes else names[False] == names[True]


def test_output_has_the_shape_and_type_of_the_query(
    variant_name: str, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name, dtype=dtype)
        query = torch.randn(3, 5, D_MODEL, dtype=dtype, device=device)
        context = torch.randn(3, 7, D_MODEL, dtype=dtype, device=device)
        output = module(query, context, context)
        assert output.shape == query.shape
        assert output.dtype == dtype


def test_autocast(variant_name: str, backend_name: str, build: Callable[..., Attention], device: torch.device) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name, dtype=torch.float32)
    x = torch.randn(3, 5, D_MODEL, device=device)
    expected = module(x, x, x, Mask(causal=True))
    with torch.autocast(device.type, dtype=torch.bfloat16):
        output = module(x, x, x, Mask(causal=True))
    error = (output.float() - expected).norm() / expected.norm()
    assert error < 2e-2  # some bf16 roundings of relative size 4e-3, one after the other
    output.float().sum().backward()


def test_keys_and_values_may_be_two_tensors(
    variant_name: str, backend_name: str, build: Callable[..., Attention], device: torch.device
) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, backend=backend_name)
    query, key, value = torch.randn(3, 2, 5, D_MODEL, dtype=torch.float64, device=device)
    assert not torch.equal(module(query, key, value), module(query, key, key))


@pytest.mark.parametrize("num_heads", [5, 0])
def test_heads_that_do_not_divide(variant_name: str, num_heads: int) -> None:
    if "num_heads" not in registry.variants()[variant_name].takes:
        assert isinstance(build_attention(variant_name, d_model=D_MODEL, num_heads=num_heads), Attention)
        return
    sentence = rf"num_heads={num_heads} does not divide d_model=22; possible are 1, 2, 11, 22"
    with pytest.raises(UserError, match=sentence):
        build_attention(variant_name, d_model=D_MODEL, num_heads=num_heads)


def test_another_width_of_keys(variant_name: str) -> None:
    if "d_context" in registry.variants()[variant_name].takes:
        module = build_attention(variant_name, d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT)
        context = torch.randn(3, 7, D_CONTEXT)
        assert module(torch.randn(3, 5, D_MODEL), context, context).shape == (3, 5, D_MODEL)
        return
    with pytest.raises(UserError) as refusal:
        build_attention(variant_name, d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT)
    assert f"{variant_name} takes keys and values of width d_model=22 only" in str(refusal.value)
    able = str(refusal.value).rpartition("variants that take d_context: ")[2].split(", ")
    assert able == [name for name, variant in registry.variants().items() if "d_context" in variant.takes]
    assert "cross" in able


def test_an_equal_width_is_no_other_width(variant_name: str) -> None:
    assert build_attention(variant_name, d_model=D_MODEL, num_heads=HEADS, d_context=D_MODEL).training


def test_a_misspelt_option_gets_the_nearest_name(variant_name: str) -> None:
    options = registry.variants()[variant_name].options
    for option in options:
        with pytest.raises(UserError, match=rf"no option '{option.name}s': did you mean '{option.name}'\?"):
            build_attention(variant_name, d_model=D_MODEL, num_heads=HEADS, **{f"{option.name}s": option.default})
    if not options:
        with pytest.raises(
            UserError, match=rf"{variant_name} has no option 'rank': known: qk_norm, rope, rope_base, softcap"
        ):
            build_attention(variant_name, d_model=D_MODEL, num_heads=HEADS, rank=3)


def test_a_misspelt_variant_gets_the_nearest_name(variant_name: str) -> None:
    with pytest.raises(UserError, match=rf"no attention variant '{variant_name}s': did you mean '{variant_name}'\?"):
        build_attention(f"{variant_name}s", d_model=D_MODEL, num_heads=HEADS)


def test_only_what_the_constructor_names_is_given() -> None:
    given: list[dict[str, object]] = []

    @register_attention("thrown_away")
    class ThrownAway(Attention):
        def __init__(
            self,
            d_context: int | None,
            d_model: int,
            *,
            shape: tuple[int, str] = (1, "a"),
            colour: Colour = Colour.RED,
            rate: float = 0.5,
        ) -> None:
            super().__init__()
            given.append({"d_context": d_context, "d_model": d_model, "shape": shape, "colour": colour, "rate": rate})

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            return query

    # What a config or a JSON file holds comes as the type that the constructor declares.
    build_attention(
        "thrown_away", d_model=D_MODEL, num_heads=HEADS, d_context=D_CONTEXT, shape=[3, "b"], colour="BLUE", rate=2
    )
    assert given == [
        {"d_context": D_CONTEXT, "d_model": D_MODEL, "shape": (3, "b"), "colour": Colour.BLUE, "rate": 2.0}
    ]
    assert isinstance(given[0]["rate"], float)


@pytest.mark.parametrize(
    ("returned", "sentence"),
    [
        (lambda x: x[:, :-1], r"Wrong\.forward returned shape \[1, 1, 22\], but .* have \[1, 2, 22\]"),
        (lambda x: x.transpose(1, 2), r"Wrong\.forward returned shape \[1, 22, 2\]"),
        (lambda x: (x, None), r"Wrong\.forward returned a tuple, not one tensor"),
        (lambda x: None, r"Wrong\.forward returned a NoneType, not one tensor"),
    ],
)
def test_a_forward_of_another_shape_is_refused(returned: Callable[[Tensor], object], sentence: str) -> None:
    @register_attention("wrong")
    class Wrong(Attention):
        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> object:
            return returned(query)

    with pytest.raises(UserError, match=sentence):
        build_attention("wrong", d_model=D_MODEL, num_heads=HEADS)


def through_pickle(module: Attention) -> Attention:
    return pickle.loads(pickle.dumps(module))


def through_torch_save(module: Attention) -> Attention:
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle, through_torch_save])
def test_copies_compute_the_same_and_are_watched_by_nobody(
    variant_name: str,
    backend_name: str,
    copied: Callable[[Attention], Attention],
    build: Callable[..., Attention],
    device: torch.device,
) -> None:
    class Watcher(Observer):
        returned_from: list[Attention]

        def returned(self, module: Attention, output: Tensor) -> None:
            self.returned_from.append(module)

    watcher = Watcher()
    watcher.returned_from = []
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS, dropout=0.1, backend=backend_name).eval()
    module.site, module.layer = "cross", 3
    x = torch.randn(3, 5, D_MODEL, dtype=torch.float64, device=device)
    with module.observed_by(watcher):
        expected = module(x, x, x)
        twin = copied(module)
        assert_close(twin(x, x, x), expected, rtol=0, atol=0)
    assert watcher.returned_from == [module]
    assert (twin.site, twin.layer, twin.backend, twin.attention_dropout) == ("cross", 3, backend_name, 0.1)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1.0)
    assert_close(module(x, x, x), expected, rtol=0, atol=0)
    assert not torch.equal(twin(x, x, x), expected)


def test_state_dict(variant_name: str, build: Callable[..., Attention], device: torch.device) -> None:
    module = build(variant_name, d_model=D_MODEL, num_heads=HEADS)
    other = build(variant_name, d_model=D_MODEL, num_heads=HEADS, seed=1)
    x = torch.randn(3, 5, D_MODEL, dtype=torch.float64, device=device)
    assert not torch.equal(module(x, x, x), other(x, x, x))
    other.load_state_dict(module.state_dict())
    assert_close(other(x, x, x), module(x, x, x), rtol=0, atol=0)


def test_keys_and_values_of_different_lengths_are_refused_inside_attend_too(
    backend_name: str, device: torch.device
) -> None:
    """A fused kernel without a dense mask would read past the end of the shorter one and say nothing."""
    module = Attention()
    module.backend = backend_name
    q, k, v = (torch.zeros(2, 3, length, 5, device=device) for length in (7, 11, 13))
    with pytest.raises(UserError, match=r"11 keys and 13 values in a batch of 2 under a mask for .* \(2, 7, 11\)"):
        module.attend(q, k, v, Mask().bind(2, 7, 11, device))
    with pytest.raises(UserError, match=r"11 keys and 11 values in a batch of 2 under a mask for .* \(2, 7, 13\)"):
        module.attend(q, k, k, Mask().bind(2, 7, 13, device))
    for batch, queries in ((1, 7), (2, 5)):
        with pytest.raises(UserError, match=r"mask\.bind sets the mask's"):
            module.attend(q, k, k, Mask().bind(batch, queries, 11, device))


def test_a_class_that_is_no_attention_is_refused_with_its_file() -> None:
    @register_attention("mere_module")
    class Mere(torch.nn.Module):
        """No Attention."""

        def __init__(self, d_model: int) -> None:
            super().__init__()

    with pytest.raises(UserError, match=r"mere_module: .*Mere in .*test_build\.py is no subclass of"):
        build_attention("mere_module", d_model=13, num_heads=1)
