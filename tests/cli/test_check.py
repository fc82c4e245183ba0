"""`attnframe check`: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from attnframe import registry
from attnframe.cli import check as check_command
from attnframe.errors import UserError
from attnframe.testing import CHECKS

FAULTY = Path(__file__).parents[1] / "testing" / "faulty" / "seeing_too_much.py"
QUICK = "shape,causal,padding"


def rows(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> list[dict[str, str]]:
    assert check_command.main(list(arguments)) == code
    header, *lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    return [dict(zip(header, line, strict=True)) for line in lines]


def test_all_is_every_registered_variant(capsys: pytest.CaptureFixture[str]) -> None:
    found = rows(capsys, "all", "--only", QUICK)
    assert [row["variant"] for row in found] == [name for name in registry.variants() for _ in QUICK.split(",")]
    assert {row["verdict"] for row in found} == {"passed"}


def test_a_failure_is_shown_with_its_case_and_what_should_hold(capsys: pytest.CaptureFixture[str]) -> None:
    found = {(row["variant"], row["check"]): row for row in rows(capsys, str(FAULTY), "--only", QUICK, code=1)}
    row = found["rolled_keys", "causal"]
    assert row["verdict"] == "failed"
    assert "causal, 7 tokens: other tokens from 1 on move the output at token 0 by" in row["found"]
    assert row["found"].endswith(CHECKS["causal"].meaning)
    assert found["rolled_keys", "shape"] == {
        "variant": "rolled_keys",
        "check": "shape",
        "verdict": "passed",
        "found": "",
    }
    assert {name for name, _ in found} == {
        name for name, variant in registry.variants().items() if variant.file == str(FAULTY)
    }


def test_json_has_every_check_with_its_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(FAULTY), "multi_head", "--only=shape", "--only=causal", "--backend=eager", "--json"]
    assert check_command.main(arguments) == 1
    captured = capsys.readouterr()
    found = json.loads(captured.out)
    assert {tuple(entry) for entry in found} == {("variant", "check", "verdict", "found", "meaning")}
    verdicts = {(entry["variant"], entry["check"]): entry["verdict"] for entry in found}
    assert verdicts["multi_head", "causal"] == "passed"
    assert verdicts["rolled_keys", "causal"] == "failed"
    assert "failed" in captured.err


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import nothing_there\n", "broken.py failed to import: ModuleNotFoundError: No module named 'nothing_there'"),
        ("x = (\n", "broken.py failed to import: SyntaxError"),
        ("x = 1\n", "broken.py registers no attention variant"),
    ],
)
def test_a_file_that_is_no_plugin_is_one_sentence(source: str, says: str, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text(source)
    for _ in range(2):
        with pytest.raises(UserError) as refusal:
            check_command.main([str(tmp_path / "broken.py")])
        assert says in str(refusal.value)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["multi_heda"], "there is no attention variant 'multi_heda': did you mean 'multi_head'"),
        (["nowhere/mine.py"], "nowhere/mine.py: there is no such file"),
        (["multi_head", "--only", "casual"], "did you mean 'causal'"),
        (["multi_head", "--backend", "spda"], "did you mean 'sdpa'"),
        (["multi_head", "--backnd"], "did you mean '--backend'"),
        (["multi_head", "--only"], "--only needs a name"),
        ([], "which variant?"),
    ],
)
def test_what_can_be_mended_is_one_sentence(arguments: list[str], says: str) -> None:
    with pytest.raises(UserError) as refusal:
        check_command.main(arguments)
    assert says in str(refusal.value)


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_command.main(["--help"]) == 0
    assert "attnframe check all" in capsys.readouterr().out
