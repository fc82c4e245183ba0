from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from attnframe import registry
from attnframe.attention.capability import devices_at_hand, plain_request
from attnframe.backends import backends
from attnframe.cli import composition
from attnframe.cli import list as list_command
from attnframe.errors import UserError

CONF = composition.conf_folder()
FOLDERS = sorted(folder.name for folder in CONF.iterdir() if folder.is_dir())


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder without a conf/, and with the variables that `prepare` sets restored afterwards."""
    monkeypatch.chdir(tmp_path)
    for name in ("ATTNFRAME_LAUNCH", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, str]]:
    assert list_command.main(list(arguments)) == 0
    header, *lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    return [dict(zip(header, line, strict=True)) for line in lines]


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, object]]:
    assert list_command.main([*arguments, "--json"]) == 0
    found: list[dict[str, object]] = json.loads(capsys.readouterr().out)
    return found


def test_every_group_with_its_default_and_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    groups = {row["group"]: row for row in rows(capsys)}
    assert {*FOLDERS, "attention", "backend"} <= set(groups)
    assert groups["attention"]["default"] == "multi_head"
    for group in groups:
        names = [entry["name"] for entry in listed(capsys, group)]
        assert groups[group]["choices"] == ", ".join(map(str, names))
        assert groups[group]["default"] in (*names, "null")


@pytest.mark.parametrize("group", FOLDERS)
def test_every_yaml_file_is_listed_with_its_first_comment(capsys: pytest.CaptureFixture[str], group: str) -> None:
    entries = {row["name"]: row for row in rows(capsys, group)}
    for file in (CONF / group).glob("*.yaml"):
        entry = entries[file.stem]
        assert entry["file"] == f"conf/{group}/{file.name}"
        comments = [line[1:].strip() for line in file.read_text().splitlines() if line.startswith("#")]
        said = [comment for comment in comments if not comment.startswith("@package")]
        assert entry["about"] == (said[0] if said else "")


def test_schemas_are_no_choices(capsys: pytest.CaptureFixture[str]) -> None:
    assert not [row["name"] for row in rows(capsys, "data") if row["name"].endswith("_schema")]


def test_a_variant_with_formula_options_and_file(capsys: pytest.CaptureFixture[str], variant_name: str) -> None:
    variant = registry.variants()[variant_name]
    row = next(row for row in rows(capsys, "attention") if row["name"] == variant_name)
    assert row["kind"] == "variant"
    assert row["about"] == " ".join(variant.summary.split())
    assert set(row["takes"].split(", ")) == variant.takes
    assert row["file"] == f"attnframe/attention/{Path(variant.file).name}"
    entry = next(entry for entry in listed(capsys, "attention") if entry["name"] == variant_name)
    assert [(option["name"], option["type"]) for option in entry["options"]] == [
        (option.name, option.type_name) for option in variant.options
    ]
    said = {option["name"]: option["default"] for option in entry["options"]}
    assert variant.arguments(said) == {option.name: option.default for option in variant.options}
    for option in variant.options:
        assert f"{option.name}=" in row["options"]
        assert f"({option.type_name})" in row["options"]


def test_a_core_variant_names_its_paper(capsys: pytest.CaptureFixture[str], variant_name: str) -> None:
    row = next(row for row in rows(capsys, "attention") if row["name"] == variant_name)
    authors, _, address = row["paper"].partition("https://")
    assert authors.strip(" ,")
    assert address
    assert " " not in address


def test_the_backends_that_can_run_each_choice_are_shown_if_asked_for(
    capsys: pytest.CaptureFixture[str], plugin_folder: Path
) -> None:
    (plugin_folder / "scored.py").write_text(
        "from attnframe import Attention, register_attention\n"
        "from attnframe.attention import split_heads, merge_heads\n"
        "@register_attention('scored')\n"
        "class Scored(Attention):\n"
        "    def __init__(self, num_heads: int) -> None:\n"
        "        super().__init__()\n"
        "        self.num_heads = num_heads\n"
        "    def forward(self, query, key, value, mask):\n"
        "        q, k, v = (split_heads(x, self.num_heads) for x in (query, key, value))\n"
        "        mod = lambda score, batch, head, q_idx, kv_idx: score - 1\n"
        "        return merge_heads(self.attend(q, k, v, mask, score_mod=mod))\n"
    )
    (plugin_folder / "unlike.py").write_text(
        "from attnframe import Attention, register_attention\n"
        "@register_attention('unlike')\n"
        "class Unlike(Attention):\n"
        "    def forward(self, query, key, value, mask):\n"
        "        raise RuntimeError('not yet')\n"
    )
    assert "backends" not in rows(capsys, "attention")[0]
    found = {str(entry["name"]): entry["backends"] for entry in listed(capsys, "attention", "--backends")}
    able = [
        name for name, backend in backends().items() if not backend.unsupported(plain_request(devices_at_hand()[0]))
    ]
    assert found["multi_head"] == found["low_rank_v_r4"] == able
    # The fused kernel of PyTorch takes no change of scores.
    assert found["scored"] == ["eager"]
    assert found["unlike"] == []


def test_presets_are_named_as_such_below_the_variants(capsys: pytest.CaptureFixture[str]) -> None:
    presets = {file.stem for file in (CONF / "attention").glob("*.yaml")}
    entries = rows(capsys, "attention")
    assert {row["name"] for row in entries if row["kind"] == "preset"} == presets
    kinds = [row["kind"] for row in entries]
    assert kinds == sorted(kinds, reverse=True)
    assert next(row for row in entries if row["name"] == "low_rank_v_r4")["options"] == "rank=4 (int)"


def test_a_plugin_and_a_user_preset_are_listed_by_their_place_here(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, plugin_folder: Path
) -> None:
    (plugin_folder / "listed_plugin.py").write_text(
        "from attnframe import Attention, register_attention\n"
        "@register_attention('listed_plugin')\n"
        "class ListedPlugin(Attention):\n"
        "    '''The values [batch, key],\tas they are.'''\n"
        "    def __init__(self, d_model: int, *, sizes: tuple[int, int] = (2, 3), on: bool = True) -> None:\n"
        "        super().__init__()\n"
        "    def forward(self, query, key, value, mask):\n"
        "        return value\n"
    )
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "mine.yaml").write_text("# @package model\n# My own sizes.\nd_model: 3\n")
    row = next(row for row in rows(capsys, "attention") if row["name"] == "listed_plugin")
    assert row["file"] == "my_plugins/listed_plugin.py"
    assert row["about"] == "The values [batch, key], as they are."
    assert row["options"] == "sizes=[2,3] (tuple[int, int]), on=true (bool)"
    mine = next(row for row in rows(capsys, "model") if row["name"] == "mine")
    assert mine == {"name": "mine", "about": "My own sizes.", "file": "conf/model/mine.yaml"}


def test_every_backend_with_the_reason_if_it_cannot_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    entries = listed(capsys, "backend")
    assert [entry["name"] for entry in entries] == ["auto", *backends()]
    for entry in entries:
        assert entry["about"]
        assert entry["usable"] is (not entry["reasons"])
    assert {row["name"]: row["usable"] for row in rows(capsys, "backend")}["eager"] == "yes"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["modle"], "did you mean 'model'"),
        (["model", "data"], "one group at a time"),
        (["--jason"], "--jason"),
        (["model", "--backends"], "--backends belongs to `attnframe list attention --backends`"),
    ],
)
def test_what_can_be_mended_is_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        list_command.main(arguments)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_command.main(["--help"]) == 0
    assert "attnframe list attention" in capsys.readouterr().out


def test_a_reader_that_leaves_early_hears_nothing() -> None:
    code = "import sys; sys.argv = ['attnframe', 'list', 'attention']; from attnframe.cli import main; main()"
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as stdout:
        done = subprocess.run([sys.executable, "-c", code], stdout=stdout, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
