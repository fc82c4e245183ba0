"""Names, and the schema that a constructor is."""

from __future__ import annotations

import dataclasses
import enum
import importlib.util
import subprocess
import sys
import types
import typing
from pathlib import Path
from typing import Any, Literal, Optional

import pytest

from attnframe import register_attention, registry
from attnframe.errors import UserError, did_you_mean
from attnframe.options import Option
from attnframe.registry import DuplicateNameError


class Colour(enum.Enum):
    """For an option."""

    RED = 1
    BLUE = 2


class Everything:
    """One line.

    More lines."""

    def __init__(
        self,
        d_model: int,
        bias: bool = True,
        *,
        count: int = 3,
        rate: float = 0.5,
        flag: bool = False,
        word: str = "a",
        colour: Colour = Colour.RED,
        sizes: list[int] = [1, 2],  # noqa: B006 - a default that must not be shared
        pair: tuple[int, str] = (1, "b"),
        many: tuple[float, ...] = (0.5,),
        table: dict[str, int] = {"x": 1},  # noqa: B006
        maybe: int | None = None,
        old_maybe: Optional[float] = None,  # noqa: UP045 - both spellings are allowed
        bare: list = [],  # noqa: B006
    ) -> None:
        self.values = (d_model, bias, count, rate, flag, word, colour, sizes, pair, many, table, maybe, old_maybe, bare)


FITTING: dict[str, list[Any]] = {
    "count": [7, -1],
    "rate": [0.25, 2],
    "flag": [True],
    "word": [""],
    "colour": [Colour.BLUE, "BLUE"],
    "sizes": [[], [5], (5, 6)],
    "pair": [(2, "c"), [2, "c"]],
    "many": [(), [1, 2.5]],
    "table": [{}, {"y": 2}],
    "maybe": [None, 4],
    "old_maybe": [None, 4.5],
    "bare": [[], [1, "a", None]],
}
WRONG: dict[str, list[Any]] = {
    "count": [1.5, "3", True, None, [3]],
    "rate": ["0.5", True, None],
    "flag": [1, "true", None],
    "word": [1, None],
    "colour": ["GREEN", 1, None, ["RED"]],
    "sizes": [3, ["a"], "12", [None]],
    "pair": [(2,), (2, "c", 3), ("c", 2), 2],
    "many": [0.5, ["a"]],
    "table": [{"y": "2"}, {2: 2}, ["y"]],
    "maybe": ["4", 4.5],
    "old_maybe": ["4"],
    "bare": [3],
}


@pytest.fixture
def everything() -> registry.Variant:
    register_attention("everything")(Everything)
    return registry.variants()["everything"]


def test_the_schema_is_the_signature(everything: registry.Variant) -> None:
    hints = typing.get_type_hints(Everything.__init__)
    config = everything.schema()()
    fields = {field.name: field for field in dataclasses.fields(config)}
    every_variant_has = ["rope", "rope_base", "qk_norm", "softcap"]
    assert list(fields) == ["name", *Everything.__init__.__kwdefaults__, *every_variant_has]
    assert [getattr(config, name) for name in every_variant_has] == [False, 10000.0, False, None]
    assert (fields["name"].type, config.name) == (str, "everything")
    for name, default in Everything.__init__.__kwdefaults__.items():
        assert fields[name].type == hints[name], name
        assert getattr(config, name) == default, name
    assert everything.takes == {"d_model", "bias"}


def test_a_config_shares_no_default(everything: registry.Variant) -> None:
    schema = everything.schema()
    schema().sizes.append(3)
    schema().table["z"] = 3
    assert schema().sizes == [1, 2]
    assert schema().table == {"x": 1}


def test_a_config_builds_what_the_constructor_builds(everything: registry.Variant) -> None:
    config = dataclasses.asdict(everything.schema()())
    everything.check({name: value for name, value in config.items() if name != "name"})
    own = {option.name: config[option.name] for option in everything.options}
    assert Everything(3, **everything.arguments(own)).values == Everything(3).values


def test_every_core_schema_round_trips(variant_name: str) -> None:
    variant = registry.variants()[variant_name]
    config = dataclasses.asdict(variant.schema()())
    assert config.pop("name") == variant_name
    variant.check(config)
    assert variant.arguments(config) == config == {option.name: option.default for option in variant.all_options}


@pytest.mark.parametrize("name", FITTING)
def test_values_that_fit(everything: registry.Variant, name: str) -> None:
    for value in FITTING[name]:
        everything.check({name: value})


@pytest.mark.parametrize("name", WRONG)
def test_values_of_another_type_are_refused_by_name(everything: registry.Variant, name: str) -> None:
    assert set(WRONG) == set(FITTING) == {option.name for option in everything.options}
    option = next(option for option in everything.options if option.name == name)
    for value in WRONG[name]:
        with pytest.raises(UserError) as refusal:
            everything.check({name: value})
        assert str(refusal.value) == (
            f"everything: option {name}={value!r} is no {option.type_name} (default {option.default!r})"
        )


def test_what_a_config_holds_becomes_what_the_constructor_declares(everything: registry.Variant) -> None:
    arguments = everything.arguments({"colour": "BLUE", "pair": [2, "c"], "many": [1, 2], "sizes": (5,), "rate": 1})
    assert arguments == {"colour": Colour.BLUE, "pair": (2, "c"), "many": (1.0, 2.0), "sizes": [5], "rate": 1.0}
    assert [type(value) for value in arguments.values()] == [Colour, tuple, tuple, list, float]


def test_type_names(everything: registry.Variant) -> None:
    names = {option.name: option.type_name for option in everything.options}
    assert names["count"] == "int"
    assert names["maybe"] == "int | None"
    assert names["colour"] == " | ".join(Colour.__members__)
    assert Option("colour", Colour | None, None).type_name == f"{names['colour']} | None"
    assert names["sizes"] == "list[int]"
    assert "typing" not in names["old_maybe"]


def test_a_misspelt_option(everything: registry.Variant) -> None:
    with pytest.raises(UserError, match=r"everything has no option 'cuont': did you mean 'count'\? \(known: bare, "):
        everything.check({"cuont": 3})


def test_the_summary_is_the_first_line_of_the_docstring(everything: registry.Variant) -> None:
    assert everything.summary == "One line."
    assert all(variant.summary for variant in registry.variants().values())


def test_variants_are_sorted_and_a_copy() -> None:
    register_attention("aaa")(Everything)
    assert list(registry.variants()) == sorted(registry.variants())
    registry.variants().clear()
    assert "aaa" in registry.variants()


# Each is refused at registration: (the class, what the sentence says beside the class's name).


class PlainArgs:
    def __init__(self, d_model: int, *rest: int) -> None: ...


class PlainKwargs:
    def __init__(self, d_model: int, **rest: int) -> None: ...


class NoType:
    def __init__(self, *, rank=3) -> None: ...


class NoDefault:
    def __init__(self, *, rank: int) -> None: ...


class Positional:
    def __init__(self, d_model: int, rank: int = 3) -> None: ...


class NameTaken:
    def __init__(self, *, name: str = "x") -> None: ...


class BackendTaken:
    def __init__(self, *, backend: str = "x") -> None: ...


class LiteralType:
    def __init__(self, *, rank: Literal["a", "b"] = "a") -> None: ...


class AnyType:
    def __init__(self, *, rank: Any = None) -> None: ...


class UnionType:
    def __init__(self, *, rank: int | str = 3) -> None: ...


class ListOfUnions:
    def __init__(self, *, rank: list[int | str] = []) -> None: ...  # noqa: B006


class WrongDefault:
    def __init__(self, *, rank: int = 0.5) -> None: ...


class NoneDefault:
    def __init__(self, *, rank: int = None) -> None: ...  # noqa: RUF013


class NameOfMember:
    def __init__(self, *, rank: Colour = "RED") -> None: ...


class UnknownType:
    def __init__(self, *, rank: Nowhere = 3) -> None: ...  # noqa: F821


class NoSuchAttribute:
    def __init__(self, *, rank: types.Nowhere = 3) -> None: ...


REFUSED = {
    PlainArgs: "has *rest: name every option",
    PlainKwargs: "has **rest: name every option",
    NoType: "option 'rank' needs a type (int, float, bool, str, an Enum, list, tuple, dict, or one of these | None)",
    NoDefault: "option 'rank' needs a default",
    Positional: "'rank' is none of d_model, num_heads, dropout, d_context, bias, so it is an option: put it behind",
    NameTaken: "an option cannot be called 'name'",
    BackendTaken: "an option cannot be called 'backend'",
    LiteralType: "option 'rank' has type Literal['a', 'b']; possible are int, float",
    AnyType: "option 'rank' has type Any; possible are",
    UnionType: "option 'rank' has type int | str; possible are",
    ListOfUnions: "option 'rank' has type list[int | str]; possible are",
    WrongDefault: "the default 0.5 of option 'rank' is no int",
    NoneDefault: "the default None of option 'rank' is no int",
    NameOfMember: "the default 'RED' of option 'rank' is no Colour",
    UnknownType: "has an annotation that cannot be read: name 'Nowhere' is not defined",
    NoSuchAttribute: "has an annotation that cannot be read: module 'types' has no attribute 'Nowhere'",
}


@pytest.mark.parametrize("cls", REFUSED, ids=lambda cls: cls.__name__)
def test_an_incomplete_schema_is_refused(cls: type) -> None:
    with pytest.raises(UserError) as refusal:
        register_attention("refused")(cls)
    sentence = str(refusal.value)
    assert sentence.startswith(f"refused: {cls.__name__}.__init__")
    assert REFUSED[cls] in sentence
    assert "\n" not in sentence
    assert "refused" not in registry.variants()


@pytest.mark.parametrize("name", ["my variant", "3d", "", "a-b", None, Everything])
def test_a_name_is_an_identifier(name: object) -> None:
    with pytest.raises(UserError, match=r"a variant's name is a Python identifier such as 'my_variant'"):
        register_attention(name)  # type: ignore[arg-type]


def load(path: Path, module_name: str) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    finally:
        del sys.modules[module_name]
    return module


SOURCE = '''
from attnframe import register_attention

@register_attention("twice")
class {cls}:
    """{doc}"""
    def __init__(self, *, rank: int = {rank}) -> None: ...
'''


def test_two_files_with_one_name_are_both_named(tmp_path: Path) -> None:
    one, other = tmp_path / "one.py", tmp_path / "other.py"
    for file in (one, other):
        file.write_text(SOURCE.format(cls="Twice", doc="", rank=3))
    load(one, "one_of_two")
    with pytest.raises(DuplicateNameError) as refusal:
        load(other, "other_of_two")
    assert str(refusal.value) == (
        f"the variant 'twice' is registered twice: by Twice in {one} and by Twice in {other}; rename one of them"
    )
    assert registry.variants()["twice"].file == str(one)


def test_a_core_name_cannot_be_taken(variant_name: str) -> None:
    before = registry.variants()[variant_name]
    with pytest.raises(DuplicateNameError, match=rf"'{variant_name}' is registered twice: .*{before.cls.__name__}"):
        register_attention(variant_name)(Everything)
    assert registry.variants()[variant_name] is before


def test_two_classes_of_one_file_with_one_name_are_both_named() -> None:
    register_attention("twice")(Everything)
    with pytest.raises(DuplicateNameError, match=r"by Everything in .*test_registry\.py and by NoArguments in "):
        register_attention("twice")(NoArguments)


class NoArguments:
    def __init__(self) -> None: ...


def test_a_class_that_is_run_again_replaces_itself(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    for rank in (3, 5):
        file.write_text(SOURCE.format(cls="Twice", doc="x" * rank, rank=rank))
        load(file, "one_of_two")
    assert registry.variants()["twice"].options[0].default == 5


def test_a_cell_of_a_notebook_that_is_run_again_replaces_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    notebook = types.ModuleType("a_notebook")
    monkeypatch.setitem(sys.modules, "a_notebook", notebook)
    for rank in (3, 5):
        exec(SOURCE.format(cls="Twice", doc="", rank=rank), notebook.__dict__)
    assert registry.variants()["twice"].options[0].default == 5
    assert registry.variants()["twice"].file == "<a_notebook>"


def test_postponed_and_plain_annotations_give_one_schema(tmp_path: Path) -> None:
    schemas = []
    for first_line in ("from __future__ import annotations", ""):
        file = tmp_path / f"file{len(schemas)}.py"
        file.write_text(
            f"{first_line}\nfrom attnframe import register_attention\n\n"
            f"@register_attention('variant{len(schemas)}')\nclass Same:\n"
            "    def __init__(self, d_model: int, *, rank: int | None = None, sizes: tuple[int, ...] = (1,)): ...\n"
        )
        load(file, "annotated")
        variant = registry.variants()[f"variant{len(schemas)}"]
        schemas.append([(option.type, option.default) for option in variant.options])
    assert schemas[0] == schemas[1] == [(int | None, None), (tuple[int, ...], (1,))]


def test_forget_drops_the_variants_of_one_file(tmp_path: Path) -> None:
    file = tmp_path / "one.py"
    file.write_text(SOURCE.format(cls="Twice", doc="", rank=3))
    before = set(registry.variants())
    load(file, "one_of_two")
    assert set(registry.variants()) - before == {"twice"}
    registry.forget(str(file))
    assert set(registry.variants()) == before


def test_did_you_mean() -> None:
    sentence = did_you_mean("multi_heda", ["multi_head", "cross"])
    assert sentence == "did you mean 'multi_head'? (known: cross, multi_head)"
    assert did_you_mean("zzz", ["multi_head", "cross"]) == "known: cross, multi_head"
    assert did_you_mean("zzz", []) == "known: none"


def test_the_registry_needs_no_torch() -> None:
    code = "import sys, attnframe.registry, attnframe.discovery; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("docstring", "paper"),
    [
        (
            "A formula.\n\nReference: A. Author 2022, section 3, https://a.org/abs/1. More.",
            "A. Author 2022, section 3, https://a.org/abs/1",
        ),
        (
            "A formula.\n\nReference: two lines\n    of it, https://a.org/b, http://c.org.",
            "two lines of it, https://a.org/b",
        ),
        ("A formula.\n\nReference: authors, year, section, URL.", None),
        ("A formula, see https://a.org.", None),
        (None, None),
    ],
)
def test_the_paper_is_what_the_docstring_refers_to_up_to_its_first_address(
    docstring: str | None, paper: str | None
) -> None:
    cls = type("Cls", (), {"__doc__": docstring})
    assert registry.Variant("a", cls, "a.py", frozenset(), ()).paper == paper
