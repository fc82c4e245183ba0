"""What a run has measured is read back whatever state its files are in."""

from __future__ import annotations

from pathlib import Path

import pytest

from attnframe.runs.folder import RunFolder
from attnframe.runs.histories import head_log, validations


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    (tmp_path / "patterns").mkdir()
    return RunFolder(tmp_path)


def test_only_validations_and_only_what_was_measured(folder: RunFolder) -> None:
    folder.metrics.write_text(
        "step,train/loss,val/loss,val/aer,val/bleu\n5,3.0,,,\n10,,2.5,,nan\n15,2.0,,,\n20,,1.5,,7.0\n", encoding="utf-8"
    )
    found = validations(folder)
    assert found.keys() == {"val/loss", "val/bleu"}
    assert found["val/loss"] == {10: 2.5, 20: 1.5}
    assert found["val/bleu"][10] != found["val/bleu"][10]
    assert found["val/bleu"][20] == 7.0


def test_heads_by_name(folder: RunFolder) -> None:
    folder.head_log.write_text(
        "step,site,layer,head,kind,entropy,aer\n"
        "10,cross,0,0,probability,1.5,0.25\n10,encoder_self,1,11,probability,0.5,\n20,cross,0,0,probability,1.25,0.125\n",
        encoding="utf-8",
    )
    assert head_log(folder) == {
        ("cross", 0, 0): {"entropy": {10: 1.5, 20: 1.25}, "aer": {10: 0.25, 20: 0.125}},
        ("encoder_self", 1, 11): {"entropy": {10: 0.5}},
    }


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00garbage", b"step\n", b"step,val/loss\nfive,1\n", b"\x00\n\x00"])
def test_files_without_anything_to_read(folder: RunFolder, content: bytes) -> None:
    folder.metrics.write_bytes(content)
    folder.head_log.write_bytes(content)
    assert validations(folder) == {}
    assert head_log(folder) == {}


def test_no_files(tmp_path: Path) -> None:
    assert validations(RunFolder(tmp_path)) == {}
    assert head_log(RunFolder(tmp_path)) == {}


def test_a_half_written_row_is_left_out(folder: RunFolder) -> None:
    folder.metrics.write_text("step,val/loss,val/aer\n10,2.5,0.5\n20,1.", encoding="utf-8")
    assert validations(folder) == {"val/loss": {10: 2.5}, "val/aer": {10: 0.5}}
    folder.head_log.write_text("step,site,layer,head,kind,entropy\n10,cross,0,0,probability,1.5\n10,cross,0", "utf-8")
    assert head_log(folder) == {("cross", 0, 0): {"entropy": {10: 1.5}}}


@pytest.mark.parametrize("name", ["metrics.csv", "patterns/heads.csv"])
def test_a_field_that_is_too_long_is_damage_that_is_said(folder: RunFolder, name: str) -> None:
    header, row = "step,site,layer,head,kind,val/loss", "10,cross,0,0,probability,2.5"
    (folder.path / name).write_text(f"{header}\n{row}\n20,{'x' * 200_000}\n{row}\n", encoding="utf-8")
    problems: list[str] = []
    found = (validations if name == "metrics.csv" else head_log)(folder, problems)
    assert problems == [f"{name} is damaged"]
    assert found in ({"val/loss": {10: 2.5}}, {("cross", 0, 0): {"val/loss": {10: 2.5}}})
