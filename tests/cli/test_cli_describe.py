from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from attnframe.cli import describe
from attnframe.errors import UserError


@pytest.fixture(autouse=True)
def _apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder without a conf/, and with the variables that `prepare` sets restored afterwards."""
    monkeypatch.chdir(tmp_path)
    for name in ("ATTNFRAME_LAUNCH", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")


def table(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[list[str]]:
    assert describe.main(list(arguments)) == 0
    return [line.split("\t") for line in capsys.readouterr().out.splitlines()]


def test_the_default_model_site_by_site_then_totals(capsys: pytest.CaptureFixture[str]) -> None:
    header, *rows = table(capsys)
    assert header[:3] == ["site", "variant", "layers"]
    assert "length 128" in " ".join(header)
    assert [row[0] for row in rows[:4]] == ["encoder_self", "decoder_self", "cross", "all attention"]
    assert {len(row) for row in rows} == {len(header)}
    sites = [int(row[3].replace(",", "")) for row in rows[:3]]
    assert int(rows[3][3].replace(",", "")) == sum(sites)
    embeddings, model = rows[-2:]
    assert embeddings[0] == "embeddings"
    assert "depend on the data: 128 parameters" in embeddings[1]
    assert model[:2] == ["model", "without embeddings"]


@pytest.mark.parametrize(
    ("overrides", "a_head"), [([], "6,291,456"), (["model.num_heads=48", "model.head_dim=256"], "12,582,912")]
)
def test_gpt3(capsys: pytest.CaptureFixture[str], overrides: list[str], a_head: str) -> None:
    _, site, total = table(capsys, "model=gpt3", *overrides)
    assert site[:6] == ["decoder_self", "multi_head", "96", "57,982,058,496", "603,979,776", a_head]
    assert total[3] == "57,982,058,496"


def test_with_a_vocabulary_the_model_is_whole(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row[0]: row for row in table(capsys, "vocabulary=17,19", "length=11")}
    assert rows["embeddings"][3] == f"{36 * 128:,}"
    assert rows["model"][1] == ""


def test_a_variant_is_named_with_the_options_that_were_changed(capsys: pytest.CaptureFixture[str]) -> None:
    rows = {row[0]: row for row in table(capsys, "attention=low_rank_v", "attention.rank=4", "attention@cross=self")}
    assert rows["decoder_self"][1] == "low_rank_v(rank=4)"
    assert rows["cross"][1] == "self"


def test_json_holds_bare_numbers(capsys: pytest.CaptureFixture[str]) -> None:
    describe.main(["--json", "length=11"])
    described = json.loads(capsys.readouterr().out)
    assert described["length"] == 11
    assert [site["site"] for site in described["sites"]] == ["encoder_self", "decoder_self", "cross"]
    for site in described["sites"]:
        assert site["cache_bytes_per_token"] == 4 * site["cache_per_token"]
        assert site["parameters_per_layer"] * site["layers"] == site["parameters"]
    assert described["totals"]["attention"]["parameters"] == sum(site["parameters"] for site in described["sites"])
    assert described["embedding_parameters_per_word"] == {"source": 128, "target": 128}


def test_a_match_is_described_with_its_width(capsys: pytest.CaptureFixture[str]) -> None:
    chosen = ("attention=uniform", "match=params", "match_to=self")
    rows = {row[0]: row for row in table(capsys, *chosen)}
    assert rows["matched"][1].startswith("d_ff 512 -> 7")
    assert rows["matched"][1].endswith("of self")
    assert len(rows["matched"]) == len(rows["model"])
    describe.main(["--json", *chosen])
    one = json.loads(capsys.readouterr().out)
    describe.main(["--json", "attention=self"])
    other = json.loads(capsys.readouterr().out)
    assert other["matched"] is None
    assert one["matched"]["ratio"] == one["totals"]["all"]["parameters"] / other["totals"]["all"]["parameters"]
    assert one["totals"]["attention"]["parameters"] < other["totals"]["attention"]["parameters"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["length=0"], "length=0"),
        (["length=long"], "length=long"),
        (["vocabulary=3"], "vocabulary=3: give two numbers"),
        (["model=gpt3", "vocabulary=3,4"], "vocabulary: .*only the attention"),
        (["model.num_heads=3"], "model.num_heads=3 does not divide"),
        (["model=tony"], "did you mean 'tiny'"),
        (["model.d_modle=3"], "did you mean 'd_model'"),
        (["--jsn"], "--jsn"),
        (["match=flop"], "did you mean 'flops'"),
        (["model=gpt3", "match=params"], "match=params: .*only the attention"),
    ],
)
def test_what_can_be_mended_is_one_sentence(arguments: list[str], sentence: str) -> None:
    with pytest.raises(UserError, match=sentence) as refused:
        describe.main(arguments)
    assert "\n" not in str(refused.value)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert describe.main(["-h"]) == 0
    assert "attnframe describe model=gpt3" in capsys.readouterr().out


def test_no_training_library_is_loaded_and_memory_stays_small() -> None:
    code = (
        "import sys; from attnframe.cli.describe import main; main(['model=gpt3']);"
        "print(sorted({'lightning', 'wandb', 'matplotlib', 'attnframe.backends.triton.attention'} & set(sys.modules)));"
        # Not getrusage, which would tell of the process that has started this one.
        "print(next(int(line.split()[1]) // 1024 for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.splitlines()
    assert lines[-2] == "[]"
    assert int(lines[-1]) < 1024  # MiB, where the weights would be 216 GiB
