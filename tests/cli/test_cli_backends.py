from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attnframe import Attention, Mask, UserError, register_attention, registry
from attnframe.attention import settle_backend
from attnframe.attention.build import build_attention
from attnframe.attention.capability import capabilities, devices_at_hand
from attnframe.backends import BackendError, backends
from attnframe.cli import backends as command

SIZES = {"d_model": 35, "num_heads": 5}


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder without a conf/, and with the variables that `prepare` sets restored afterwards."""
    monkeypatch.chdir(tmp_path)
    for name in ("ATTNFRAME_LAUNCH", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")


def listed(capsys: pytest.CaptureFixture[str], *overrides: str) -> list[dict[str, object]]:
    assert command.main([*overrides, "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_what_it_says_is_what_building_does(variant_name: str, backend_name: str, dropout: float) -> None:
    found = capabilities(**SIZES, dropout=dropout, devices=["cpu"], variants=[variant_name])
    (told,) = [capability for capability in found if capability.backend == backend_name]

    def build() -> Attention:
        return build_attention(variant_name, **SIZES, dropout=dropout, backend=backend_name)

    if told.evaluates:
        built = build()
    else:
        assert not told.runs
        with pytest.raises(BackendError) as refused:
            build()
        assert set(str(refused.value).partition(": ")[2].split("; ")[:-1]) <= set(told.reasons)
    if told.runs:
        settle_backend(built, d_model=35, d_context=35, trains=True)
    elif told.evaluates:
        with pytest.raises(BackendError) as refused:
            settle_backend(built, d_model=35, d_context=35, trains=True)
        assert all(reason in str(refused.value) for reason in told.reasons)
    module = build_attention(variant_name, **SIZES, dropout=dropout)
    resolution = settle_backend(module, d_model=35, d_context=35)
    assert told.auto is (resolution is not None and resolution.backend.name == backend_name)


def test_every_variant_device_and_backend_has_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys)
    triples = [(entry["variant"], entry["device"], entry["backend"]) for entry in found]
    assert triples == [(v, d, b) for v in registry.variants() for d in devices_at_hand() for b in backends()]
    for entry in found:
        assert entry["runs"] is (not entry["reasons"])
    taken = [entry["variant"] for entry in found if entry["auto"]]
    own = {entry["variant"] for entry in found if entry["own"]}
    assert taken == [variant for variant in registry.variants() if variant not in own]


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (["attention=low_rank_v"], ["low_rank_v"]),
        (["attention@cross=uniform", "cross.rope=false"], ["uniform"]),
        (
            ["attention=self", "layers.cross=[multi_head,{name: low_rank_v, rank: 2}]"],
            ["self", "multi_head", "low_rank_v"],
        ),
    ],
)
def test_of_what_is_chosen_there_are_these_rows_alone(
    overrides: list[str], names: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(dict.fromkeys(entry["variant"] for entry in listed(capsys, *overrides))) == names


def test_the_rows_of_a_chosen_variant_are_those_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    found = listed(capsys, "attention=low_rank_v", "attention.rank=1999")
    assert {entry["variant"] for entry in found} == {"low_rank_v"}
    assert all("rank=1999" in str(entry["reasons"]) for entry in found)


def test_a_pipe_gets_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    command.main([])
    header, *rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert header == ["variant", "device", "backend", "runs", "why not"]
    assert len(rows) == len(registry.variants()) * len(devices_at_hand()) * len(backends())
    assert {row[3] for row in rows} <= {"yes", "yes, auto", "evaluation only", "no", "own"}
    assert all(bool(row[4]) is (row[3] in ("no", "evaluation only")) for row in rows)


def test_the_options_of_the_chosen_variant_count() -> None:
    refused = capabilities(**SIZES, options={"low_rank_v": {"rank": 99}})
    for capability, by_default in zip(refused, capabilities(**SIZES), strict=True):
        if capability.variant == "low_rank_v":
            assert not any("rank" in reason for reason in by_default.reasons)
            assert not capability.evaluates
            assert not capability.runs
            assert "rank=99" in capability.reasons[0]
        else:
            assert capability == by_default


def test_sizes_and_precision_come_from_the_overrides(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}
    monkeypatch.setattr(command, "capabilities", lambda **arguments: asked.update(arguments) or [])
    command.main(["model=small", "model.attention_dropout=0.25", "trainer.precision=bf16-mixed"])
    assert (asked["d_model"], asked["num_heads"], asked["dropout"]) == (256, 8, 0.25)
    assert asked["dtype"] is torch.bfloat16


def test_a_variant_that_computes_its_attention_itself_uses_no_backend(capsys: pytest.CaptureFixture[str]) -> None:
    @register_attention("own_way")
    class OwnWay(Attention):
        """The values, if they are small: code that cannot run without numbers."""

        def __init__(self, d_model: int) -> None:
            super().__init__()

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            return value if value.sum().item() == 0 else -value

    for capability in capabilities(**SIZES, variants=["multi_head", "own_way"]):
        assert capability.own is (capability.variant == "own_way")
        assert capability.runs or not capability.own
        assert not (capability.own and capability.auto)
    command.main([])
    own = [line.split("\t")[3] for line in capsys.readouterr().out.splitlines() if line.startswith("own_way\t")]
    assert set(own) == {"own"}


def test_a_variant_that_fails_says_so_and_the_others_are_listed() -> None:
    @register_attention("fails_always")
    class FailsAlways(Attention):
        """Nothing."""

        def __init__(self, d_model: int) -> None:
            super().__init__()

        def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Mask) -> Tensor:
            raise RuntimeError("it broke\nin two lines")

    found = [c for c in capabilities(**SIZES) if c.variant == "fails_always"]
    assert len(found) == len(devices_at_hand()) * len(backends())
    assert {c.reasons for c in found} == {("fails_always fails: RuntimeError: it broke",)}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["model.num_heads=3"], "model.num_heads=3"), (["attention=multi_heda"], "multi_head"), (["--jsn"], "--jsn")],
)
def test_what_can_be_mended_is_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        command.main(arguments)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["-h"]) == 0
    assert "attnframe backends model=base" in capsys.readouterr().out
