"""`attnframe list attention --page`: every variant is on it, with the numbers that the other commands give."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from html_document import Document
from numpy.testing import assert_allclose

from attnframe import registry
from attnframe.attention import Mask
from attnframe.attention.capability import devices_at_hand, plain_request
from attnframe.backends import backends
from attnframe.catalogue.sentence import built_for_sentence, sentence_embeddings
from attnframe.cli import describe
from attnframe.cli import list as list_command
from attnframe.errors import UserError
from attnframe.patterns import record_patterns

SIZES = ["model=small", "model.num_heads=4", "model.bias=false", "length=37"]


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder without a conf/, and with the variables that `prepare` sets restored afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("ATTNFRAME_LAUNCH", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")


def data(*arguments: str) -> dict[str, Any]:
    assert list_command.main(["attention", "--page", "page.html", *arguments]) == 0
    return Document(Path("page.html").read_text(encoding="utf-8")).data


def described(capsys: pytest.CaptureFixture[str], name: str) -> dict[str, dict[str, Any]]:
    capsys.readouterr()
    assert describe.main([f"attention={name}", *SIZES, "--json"]) == 0
    return {site["site"]: site for site in json.loads(capsys.readouterr().out)["sites"]}


def test_its_numbers_are_those_of_describe_and_of_a_recording(capsys: pytest.CaptureFixture[str]) -> None:
    page = data(*SIZES)
    assert (page["sizes"]["d_model"], page["sizes"]["num_heads"], page["sizes"]["length"]) == (256, 4, 37)
    assert page["sizes"]["bias"] is False
    entries = {entry["name"]: entry for entry in page["entries"]}
    assert list(entries) == list(registry.variants())
    x = sentence_embeddings()
    for name, entry in entries.items():
        variant = registry.variants()[name]
        assert entry["formula"] == variant.summary
        assert [option[0] for option in entry["options"]] == [option.name for option in variant.options]
        assert entry["paper"] in " ".join(entry["text"])
        assert entry["file"] == f"attnframe/attention/{name}.py"
        assert entry["conformance"] == "not checked"
        with torch.no_grad(), record_patterns(module := built_for_sentence(name).eval()) as patterns:
            module(x, x, x, Mask())
        (recorded,) = patterns.values()
        assert_allclose(np.array(entry["maps"]["unmasked"]["weights"]), recorded.weights[0].numpy(), atol=5.1e-5)
    for name in ("low_rank_v", "self"):
        sites = described(capsys, name)
        for site, cost in entries[name]["costs"].items():
            assert cost["parameters"] == sites[site]["parameters_per_layer"]
            assert cost["flops_per_token"] == sites[site]["flops_per_token"] / sites[site]["layers"]
            assert cost["cache_per_token"] == sites[site]["cache_per_token"] / sites[site]["layers"]
        assert set(entries[name]["costs"]) == {"encoder_self", "decoder_self"}
    wanted = plain_request(devices_at_hand()[0])
    able = [name for name, backend in backends().items() if not backend.unsupported(wanted)]
    assert entries["multi_head"]["backends"] == able


FAILING = '''
from attnframe import Attention, UserError, register_attention

@register_attention("failing")
class Failing(Attention):
    """It fails."""

    def forward(self, query, key, value, mask):
        raise {error}
'''


def test_a_variant_that_fails_says_so_and_spoils_nothing(plugin_folder: Path) -> None:
    (plugin_folder / "failing.py").write_text(FAILING.format(error="ZeroDivisionError('in the first line\\nand more')"))
    (plugin_folder / "broken.py").write_text("import nothing_there\n")
    with pytest.warns(UserWarning, match="nothing_there"):
        page = data()
    entries = {entry["name"]: entry for entry in page["entries"]}
    failing = entries["failing"]
    assert failing["plugin"] is True
    assert failing["file"] == "my_plugins/failing.py"
    assert failing["backends"] == []
    assert failing["paper"] is None
    said = "ZeroDivisionError: in the first line"
    assert failing["maps"] == {"unmasked": {"refusal": said}, "causal": {"refusal": said}}
    assert all(cost["refusal"].endswith(said) for cost in failing["costs"].values())
    assert {name for name, entry in entries.items() if not entry["plugin"]} == set(registry.variants()) - {"failing"}
    assert "weights" in entries["multi_head"]["maps"]["causal"]
    (notice,) = page["notices"]
    assert notice.startswith(f"{plugin_folder / 'broken.py'} is left out")
    assert "nothing_there" in notice


def test_a_decoder_alone_has_no_encoder_to_count() -> None:
    page = data("model=gpt3", "length=5")
    (multi_head,) = [entry for entry in page["entries"] if entry["name"] == "multi_head"]
    assert multi_head["costs"] == {
        "decoder_self": {
            "parameters": 4 * 12288**2,
            "flops_per_token": 8 * 12288**2 + 4 * 5 * 12288,
            "cache_per_token": 2 * 12288,
        }
    }


def test_it_is_written_where_it_is_wanted(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnframe.cli.catalogue_page._catalogue", lambda *_: None)
    monkeypatch.setattr("attnframe.cli.catalogue_page.catalogue_html", lambda _: "<p>the page")
    assert list_command.main(["attention", "--page=a/b/page.html"]) == 0
    assert Path("a/b/page.html").read_text() == "<p>the page"
    assert capsys.readouterr().out == f"{Path('a/b/page.html')}\n"
    Path("old.htm").write_text("an older page")
    assert list_command.main(["attention", "--backends", "--page", "old.htm"]) == 0
    assert Path("old.htm").read_text() == "<p>the page"
    capsys.readouterr()
    assert list_command.main(["attention", "--page", os.devnull]) == 0
    assert capsys.readouterr().out == ""
    Path("file").write_text("mine")
    with pytest.raises(UserError, match=r"^--page file/page\.html: file is no folder$"):
        list_command.main(["attention", "--page", "file/page.html"])


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["attention", "--page"], "--page needs its FILE: --page FILE$"),
        (["attention", "--page="], "--page needs its FILE: --page FILE$"),
        (["attention", "--page", "."], r"--page \.: this is a folder; name a file, such as catalogue\.html$"),
        (["attention", "--page", "notes.txt"], r"notes\.txt is there already and ends in neither \.html nor \.htm"),
        (["model", "--page", "p.html"], "--page belongs to `attnframe list attention --page FILE`"),
        (["--page", "p.html"], "--page belongs to `attnframe list attention --page FILE`"),
        (["attention", "--page", "p.html", "--json"], "--page and --json: give one of them"),
        (["attention", "model=small"], "model=small: a list takes no settings; a page does"),
        (["attention", "--page", "p.html", "attention=self"], "attention=self: the page takes model=NAME"),
        (["attention", "--page", "p.html", "model=smal"], "did you mean 'small'"),
        (["attention", "--page", "p.html", "model.d_modle=3"], "d_modle"),
        (["attention", "--page", "p.html", "model.num_heads=3"], "num_heads=3"),
        (["attention", "--page", "p.html", "length=0"], "length=0: '0' is no whole number from 1 on"),
        (
            ["attention", "--paeg", "p.html"],
            "--paeg: there is no such flag; possible are --backends, --page, --json",
        ),
    ],
)
def test_what_can_be_mended_is_one_sentence(arguments: list[str], sentence: str) -> None:
    Path("notes.txt").write_text("mine")
    with pytest.raises(UserError) as refusal:
        list_command.main(arguments)
    assert re.search(sentence, str(refusal.value))
    assert "\n" not in str(refusal.value)
    assert not Path("p.html").exists()
    assert Path("notes.txt").read_text() == "mine"


@pytest.mark.slow
def test_neither_list_nor_page_waits_for_what_trains() -> None:
    code = (
        "import sys\n"
        "from attnframe.cli import list\n"
        "list.main(['attention'])\n"
        "assert 'attnframe.cli.catalogue_page' not in sys.modules\n"
        "list.main(['attention', '--page', 'page.html'])\n"
        "sys.exit(bool({'lightning', 'wandb', 'matplotlib', 'attnframe.testing'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
