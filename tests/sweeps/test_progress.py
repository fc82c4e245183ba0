"""How far a job is, by its folder."""

from __future__ import annotations

from pathlib import Path

from attnframe.sweeps.progress import Progress, progress_of

HEADER = "step,epoch,seconds,train/loss,val/loss\n"


def test_from_waiting_to_done(tmp_path: Path) -> None:
    assert progress_of(tmp_path) == Progress("waiting")
    metrics = tmp_path / "metrics.csv"
    metrics.write_text(HEADER)
    assert progress_of(tmp_path) == Progress("waiting")
    metrics.write_text(f"{HEADER}50,0,7.5,2.5,\n")
    assert progress_of(tmp_path) == Progress("running", 50, 7.5)
    metrics.write_text(f"{HEADER}50,0,7.5,2.5,\n100,0,15.25,,1.75\n150,1,2")
    assert progress_of(tmp_path) == Progress("running", 100, 15.25, 1.75)
    (tmp_path / "DONE").touch()
    assert progress_of(tmp_path) == Progress("done", 100, 15.25, 1.75)


def test_only_the_end_of_a_long_table_is_read(tmp_path: Path) -> None:
    rows = "".join(f"{step},0,{step / 8},0.12345678901234567,{step}\n" for step in range(1, 2000))
    (tmp_path / "metrics.csv").write_text(HEADER + rows)
    assert progress_of(tmp_path) == Progress("running", 1999, 1999 / 8, 1999.0)


def test_a_damaged_table_is_no_reason_to_fail(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_bytes(b"step,epoch\n\xff\xfe,x\nno,number\n")
    (tmp_path / "FAILED").touch()
    assert progress_of(tmp_path) == Progress("failed")
