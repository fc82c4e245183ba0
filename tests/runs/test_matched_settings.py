from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_run import surroundings, tiny_resume, tiny_run, tiny_settings

from attnframe import UserError, load_run
from attnframe.runs.matched_settings import match_of, matched

WIDE = ("model.d_ff=131",)


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path) -> Iterator[None]:
    (tmp_path / "run").mkdir()
    with surroundings(tmp_path / "run"):
        yield


def test_only_the_width_is_turned() -> None:
    chosen = ("attention=low_rank_v", "attention.rank=3", *WIDE)
    plain, solved = tiny_settings(*chosen), tiny_settings(*chosen, "match=params")
    assert match_of(plain) is None
    assert "matched" not in plain
    match = match_of(solved)
    assert match is not None
    assert (match.by, match.reference, match.d_ff_before) == ("params", "multi_head", 131)
    assert solved["model"] == {**plain["model"], "d_ff": match.d_ff}
    assert match.d_ff > 131
    assert {key for key in solved if solved[key] != plain.get(key)} == {"match", "matched", "model"}


def test_nothing_is_solved_twice() -> None:
    solved = tiny_settings("attention=uniform", "match=params", *WIDE)
    assert matched(solved) == solved
    assert matched(json.loads(json.dumps(solved))) == solved


def test_every_way_to_choose_attention_counts() -> None:
    everywhere = tiny_settings("attention=uniform", "match=flops", *WIDE)
    a_site = tiny_settings("attention@cross=uniform", "match=flops", *WIDE)
    a_layer = tiny_settings("layers.cross=[uniform,multi_head]", "match=flops", *WIDE)
    widths = [chosen["model"]["d_ff"] for chosen in (everywhere, a_site, a_layer)]
    assert widths == sorted(widths, reverse=True)
    assert len({131, *widths}) == 4


def test_the_reference_is_one_variant_at_every_site() -> None:
    sites = ("layers.encoder_self=[uniform,self]", "attention@cross=uniform")
    to_itself = tiny_settings("attention=self", *sites, "match=params", "match_to=self", *WIDE)
    assert to_itself["model"]["d_ff"] > 131


def test_an_encoder_of_another_width() -> None:
    chosen = ("model.encoder.d_model=22", "attention@cross=cross", *WIDE)
    assert tiny_settings(*chosen, "match=params", "match_to=cross")["model"]["d_ff"] == 131
    with pytest.raises(UserError, match=r"match_to=multi_head: cross: .*d_context=22.*: .*cross, .*uniform"):
        tiny_settings(*chosen, "match=params")


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["match=parms"], "match=parms: did you mean 'params'"),
        (["match=params", "match_to=multi_hed"], "match_to=multi_hed: .*did you mean 'multi_head'"),
        (["match=flops", "match_length=0"], "match_length=0 must be at least 1"),
        (["model=gpt3", "match=params", "model.num_heads=96", "model.d_model=12288"], "match=params: .*decoder_only"),
        (["match=params", "model.d_ff=0"], "model.d_ff=0 must be at least 1"),
        (["match=params", "attention=low_rank_v", "attention.rank=99"], "encoder_self: rank=99"),
    ],
)
def test_what_can_be_mended_is_one_sentence(overrides: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as refused:
        tiny_settings(*overrides)
    assert "\n" not in str(refused.value)


@pytest.mark.slow
def test_a_matched_run_says_so_and_goes_on_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "run"
    chosen = ("attention=uniform", "match=params", *WIDE, "trainer.max_steps=2", "callbacks.patterns.sentences=0")
    results = tiny_run(path, *chosen)
    manifest = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    what = manifest["matched"]
    assert manifest["settings"]["matched"] == what
    assert manifest["settings"]["model"]["d_ff"] == what["d_ff"] != what["d_ff_before"] == 131
    assert {key: results[f"matched/{key}"] for key in what} == what
    assert abs(what["ratio"] - 1) < 0.01
    model = load_run(path).model
    assert {layer.feed_forward[0].out_features for layer in model.encoder} == {what["d_ff"]}
    again = tiny_resume(path, max_steps=4)
    assert (again["train/steps"], again["parameters"]) == (4, results["parameters"])
    assert json.loads((path / "manifest.json").read_text(encoding="utf-8"))["matched"] == what
    # As many numbers as the reference, in real models: the embeddings are in both.
    other = tmp_path / "other"
    other.mkdir()
    reference = tiny_run(other, *chosen[2:], "match=params")
    assert results["parameters"] == pytest.approx(reference["parameters"], rel=0.01)
    assert json.loads((other / "manifest.json").read_text(encoding="utf-8"))["matched"]["ratio"] == 1
