"""`attnframe new`: a file that works before anything is filled in, and names that cannot be had."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from command_line import CONSOLE_SCRIPT, SMALL, environment, markers, run_folders
from torch.testing import assert_close

from attnframe import Mask, UserError, build_attention, discovery, registry
from attnframe.cli import list as list_command
from attnframe.cli import new
from attnframe.cli.variant_template import class_name, variant_source

ROOT = Path(__file__).parents[2]
BATCH, QUERIES, KEYS, D_MODEL, HEADS = 3, 5, 7, 22, 2


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty folder with the default plugin folder, and with the variables that `prepare` sets restored."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(discovery.FOLDERS_VARIABLE)
    for name in ("ATTNFRAME_LAUNCH", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")


def test_the_file_is_found_and_listed_with_its_option(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert new.main(["my_idea"]) == 0
    assert (tmp_path / "plugins/my_idea.py").is_file()
    printed = capsys.readouterr().out
    assert printed.startswith("plugins/my_idea.py is written")
    assert [line.strip() for line in printed.splitlines() if line.startswith("  ")] == [
        "attnframe check my_idea",
        "attnframe train attention=my_idea debug=fast",
        "attnframe train -m attention=multi_head,my_idea seed=1,2,3 match=params sweep=my_idea",
    ]
    assert list_command.main(["attention"]) == 0
    header, *lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    (row,) = [dict(zip(header, line, strict=True)) for line in lines if line[0] == "my_idea"]
    assert row["options"] == "temperature=1.0 (float)"
    assert (row["file"], row["paper"]) == ("plugins/my_idea.py", "")
    assert "√" in row["about"]


@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("causal", [True, False])
def test_it_computes_its_formula_under_any_mask(temperature: float, causal: bool) -> None:
    new.main(["my_idea"])
    torch.manual_seed(3)
    module = build_attention("my_idea", d_model=D_MODEL, num_heads=HEADS, temperature=temperature).double()
    query = torch.randn(BATCH, QUERIES, D_MODEL, dtype=torch.float64, requires_grad=True)
    context = torch.randn(BATCH, KEYS, D_MODEL, dtype=torch.float64, requires_grad=True)
    keep = torch.tensor([[j < n for j in range(KEYS)] for n in (4, KEYS, 0)])
    mask = Mask(key_keep=keep, causal=causal, query_offset=1)
    output = module(query, context, context, mask)
    # PyTorch's own module with the same weights: there True means "may not attend", and an empty row is NaN.
    oracle = torch.nn.MultiheadAttention(D_MODEL, HEADS, batch_first=True, dtype=torch.float64)
    parts = (module.query_proj, module.key_proj, module.value_proj)
    with torch.no_grad():
        oracle.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        oracle.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        oracle.in_proj_weight[:D_MODEL] /= temperature
        oracle.in_proj_bias[:D_MODEL] /= temperature
        oracle.out_proj.load_state_dict(module.output_proj.state_dict())
    hidden = ~mask.bind(BATCH, QUERIES, KEYS).dense()[:2].expand(2, HEADS, QUERIES, KEYS).reshape(-1, QUERIES, KEYS)
    expected, _ = oracle(query[:2], context[:2], context[:2], attn_mask=hidden)
    assert_close(output[:2], expected, rtol=0, atol=1e-10)
    assert_close(output[2], module.output_proj.bias.expand(QUERIES, D_MODEL), rtol=0, atol=1e-12)
    output.pow(2).sum().backward()
    for tensor in (query, context, *module.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
    assert module.can_be_cached


def test_a_temperature_that_is_none_is_refused_by_the_file() -> None:
    new.main(["my_idea"])
    with pytest.raises(UserError, match=r"temperature=0\.0 must be above 0"):
        build_attention("my_idea", d_model=D_MODEL, num_heads=HEADS, temperature=0.0)


@pytest.mark.parametrize(
    ("name", "cls"),
    [
        ("my_idea", "MyIdea"),
        ("GQA", "GQA"),
        ("top2__keys", "Top2Keys"),
        ("mask", "MaskVariant"),
        ("user_error", "UserErrorVariant"),
        ("none", "NoneVariant"),
    ],
)
def test_a_class_is_called_like_its_variant_but_hides_nothing(name: str, cls: str) -> None:
    assert class_name(name) == cls
    new.main([name])
    discovery.load_plugins()
    assert registry.variants()[name].cls.__name__ == cls


def test_the_file_is_in_the_style_of_the_project(tmp_path: Path) -> None:
    pytest.importorskip("ruff")
    for name in ("my_idea", "x", "mask"):
        (tmp_path / f"{name}.py").write_text(variant_source(name), encoding="utf-8")
    settings = ["--config", str(ROOT / "pyproject.toml"), "--config", "lint.isort.known-first-party=['attnframe']"]
    for command in (["check"], ["format", "--check"]):
        options = settings if command == ["check"] else settings[:2]
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--no-cache", *options, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


def test_the_first_folder_of_the_variable_is_taken_and_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(discovery.FOLDERS_VARIABLE, os.pathsep.join((str(tmp_path / "deep/mine"), "others")))
    assert new.main(["my_idea"]) == 0
    assert capsys.readouterr().out.startswith(f"{tmp_path}/deep/mine/my_idea.py is written")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("my-idea", "such as 'my_idea'"),
        ("2nd", "such as 'my_idea'"),
        ("a b", "such as 'a_b'"),
        ("../escape", "such as 'escape'"),
        ("_hidden", "such as 'hidden'"),
        ("grammar_schema", "such as 'grammar'"),
        ("été", "such as 'my_idea'"),
        ("class", "that word is taken"),
        ("all", "that word is taken"),
        ("Null", "that word is taken"),
        ("self", r"already, in .*attention/self\.py"),
        ("multi_head", r"already, in .*attention/multi_head\.py"),
        ("low_rank_v_r4", r"a preset 'low_rank_v_r4' already, .*conf/attention/low_rank_v_r4\.yaml"),
        ("mine_r2", r"a preset 'mine_r2' already, .*conf/attention/mine_r2\.yaml"),
        ("taken", r"already, in .*plugins/other\.py"),
        ("broken", r"broken\.py would define 'broken' but failed to import"),
        ("helper", r"plugins/helper\.py is there already"),
    ],
)
@pytest.mark.filterwarnings("ignore::attnframe.discovery.PluginWarning")
def test_a_name_that_cannot_be_had_is_one_sentence_and_writes_nothing(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "conf/attention").mkdir(parents=True)
    (tmp_path / "conf/attention/mine_r2.yaml").write_text("defaults:\n  - low_rank_v\nrank: 2\n")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/other.py").write_text(variant_source("taken"), encoding="utf-8")
    (tmp_path / "plugins/broken.py").write_text("1 / 0\n")
    (tmp_path / "plugins/helper.py").write_text("")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.suffix in (".py", ".yaml")}
    with pytest.raises(UserError, match=said) as refusal:
        new.main([name])
    assert "\n" not in str(refusal.value)
    assert repr(name) in str(refusal.value) or f"{name}.py" in str(refusal.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.suffix in (".py", ".yaml")} == before


@pytest.mark.parametrize("arguments", [[], ["one", "other"]])
def test_there_is_one_name(arguments: list[str]) -> None:
    with pytest.raises(UserError, match="give one name, for example `attnframe new my_idea`"):
        new.main(arguments)


def test_plugin_files_that_are_turned_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(discovery.FOLDERS_VARIABLE, "")
    with pytest.raises(UserError, match=r"\$ATTNFRAME_PLUGINS is empty"):
        new.main(["my_idea"])


def test_a_folder_that_is_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "plugins").write_text("")
    with pytest.raises(UserError, match=r"plugins/my_idea\.py cannot be written: plugins: File exists"):
        new.main(["my_idea"])


def test_help_has_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert new.main(["-h"]) == 0
    assert re.search(r"^  attnframe new my_idea$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.slow
def test_the_file_trains_as_it_is(tmp_path: Path) -> None:
    def attnframe(*arguments: str) -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-c", CONSOLE_SCRIPT, *arguments],
            env=environment(tmp_path, PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        return done.returncode, done.stderr

    assert attnframe("new", "my_idea") == (0, "")
    assert attnframe("train", "attention=my_idea", "attention.temperature=2", *SMALL) == (0, "")
    (run,) = run_folders(tmp_path)
    assert markers(run) == ["DONE"]
    status, said = attnframe("new", "my_idea")
    assert status == 2
    assert re.fullmatch(r"attnframe new: there is a variant 'my_idea' already, in .*plugins/my_idea\.py: .*\n", said)
