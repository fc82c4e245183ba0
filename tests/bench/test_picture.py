from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from attnframe import UserError
from attnframe.bench import Line, Measured, Row, Spread, growths
from attnframe.bench.picture import draw

LENGTHS = (13, 29, 61)


def rows(*backends: str, timed: str = "module") -> list[Row]:
    found = []
    for factor, backend in enumerate(backends, start=1):
        line = Line("multi_head", backend, LENGTHS, 12, 2, timed=timed)
        for n in LENGTHS:
            seconds = factor * n**1.5 / 1e6
            made = Measured(Spread(seconds, seconds / 2, 3 * seconds), 1e6, factor * n * n, ("kernel",), 3)
            found.append(Row(line, "cpu", backend, n, 1, made, made))
    return found


@pytest.mark.parametrize("suffix", ["png", "svg", pytest.param("pdf", marks=pytest.mark.slow)])
def test_it_is_a_picture_of_its_kind(tmp_path: Path, suffix: str) -> None:
    measured = [*rows("eager", "sdpa"), *rows("eager", timed="attend")]
    path = tmp_path / f"picture.{suffix}"
    draw(measured, growths(measured), path)
    content = path.read_bytes()
    assert content.startswith({"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix])
    if suffix == "svg":
        text = content.decode()
        for said in ("module: forward time, ms", "attend: peak memory, forward, MiB", "61"):
            assert said in text
        assert text.count("multi_head sdpa   (module: forward time ~ length^1.5, memory ~ length^2.0)") == 1
    if suffix == "png":
        with Image.open(path) as image:
            assert min(image.size) > 600
            colours = {colour for _, colour in image.convert("RGB").getcolors(1_000_000) or []}
        assert {(255, 255, 255), (0, 0x72, 0xB2)} <= colours


def test_the_same_rows_make_the_same_picture(tmp_path: Path) -> None:
    made = rows("eager")
    for name in ("first.svg", "second.svg"):
        draw(made, growths(made), tmp_path / name)
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()


def test_settings_that_differ_are_named(tmp_path: Path) -> None:
    (row,) = rows("eager")[:1]
    other = Row(Line("multi_head", "eager", LENGTHS, 12, 2, causal=True), "cpu", "eager", 13, 1, row.forward)
    draw([row, other], [], tmp_path / "picture.svg")
    text = (tmp_path / "picture.svg").read_text(encoding="utf-8")
    assert "multi_head eager, causal True" in text
    assert "d_model" not in text


def test_nothing_is_no_picture(tmp_path: Path) -> None:
    line = Line("multi_head", "triton", LENGTHS, 12, 2)
    with pytest.raises(UserError, match="nothing could be measured"):
        draw([Row(line, "cpu", "triton", note="it cannot")], [], tmp_path / "picture.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_measuring_needs_no_matplotlib() -> None:
    code = "import sys, attnframe.bench; sys.exit('matplotlib' in sys.modules or 'hydra' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
