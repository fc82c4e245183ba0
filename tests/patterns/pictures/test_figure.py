"""Figures for papers: what is in the files, and what is refused."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from attnframe import UserError
from attnframe.patterns.pictures import figure
from attnframe.patterns.pictures.colours import signed_colour, weight_colour
from attnframe.patterns.pictures.figure import Panel, check_figure_path, save_figure

QUERIES, KEYS = ["le", "chien", "<eos>"], ["the", "dog", "is", "été", "<eos>"]
FORMATS = ["png", "svg", "pdf"]


def weights(*, seed: int = 0, queries: int = 3, keys: int = 5) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(queries, keys).mul(2).softmax(-1)


def save(
    path: Path, *rows: list[Tensor], queries: list[str] = QUERIES, keys: list[str] = KEYS, **settings: object
) -> str:
    panels = [
        [
            Panel(f"layer {layer + 1}, head {head + 1}", f"L{layer + 1} H{head + 1}", values)
            for head, values in enumerate(row)
        ]
        for layer, row in enumerate(rows)
    ]
    settings = {"scale": "weight", "notes": ["Rows attend to columns."], **settings}
    return save_figure(path, panels, query_labels=queries, key_labels=keys, **settings)


def svg_texts(path: Path) -> list[str]:
    return ["".join(node.itertext()) for node in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]


def fills(path: Path) -> list[str]:
    """The colours of the cells of an SVG, in the order in which they were drawn."""
    return re.findall(r"fill: (#[0-9a-f]{6}); stroke: #ffffff; stroke-width: 0.4", path.read_text("utf-8"))


def test_every_cell_has_the_colour_of_its_weight(tmp_path: Path) -> None:
    rows = [[weights(seed=1), weights(seed=2)], [weights(seed=3)]]
    save(tmp_path / "a.svg", *rows)
    expected = [value for row in rows for panel in row for value in panel.flatten().tolist()]
    found = fills(tmp_path / "a.svg")
    assert len(found) == len(expected) == 45
    for colour, value in zip(found, expected, strict=True):
        # The ramp has 256 colours: a value may fall to one side or the other.
        near = {"#{:02x}{:02x}{:02x}".format(*weight_colour(value + d / 512)) for d in (-1.01, 0, 1.01)}
        assert colour in near


def test_a_scale_of_its_own_begins_at_zero(tmp_path: Path) -> None:
    values = torch.tensor([[0.0, 3.0], [6.0, 12.0]])
    save(tmp_path / "a.svg", [values], queries=["a", "b"], keys=["c", "d"], scale="‖P·V·W_O‖", largest=12.0)
    expected = [weight_colour(value) for value in (0, 0.25, 0.5, 1)]
    found = [tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5)) for colour in fills(tmp_path / "a.svg")]
    for one, other in zip(found, expected, strict=True):
        assert max(abs(a - b) for a, b in zip(one, other, strict=True)) <= 3
    assert "‖P·V·W_O‖" in svg_texts(tmp_path / "a.svg")
    save(tmp_path / "zero.svg", [torch.zeros(2, 2)], queries=["a", "b"], keys=["c", "d"], scale="", largest=0.0)
    assert len(set(fills(tmp_path / "zero.svg"))) == 1


def test_text_stays_text(tmp_path: Path) -> None:
    odd = ["<b>&", "$x_1$", "שלום", "\\frac{a}{b}", "🐶"]
    save(tmp_path / "a.svg", [weights(seed=1), weights(seed=2)], [weights(seed=3)], keys=odd)
    texts = svg_texts(tmp_path / "a.svg")
    for label in odd:
        assert texts.count(label) == 2, "keys once above each column of panels"
    for label in QUERIES:
        assert texts.count(label) == 2, "queries once beside each row of panels"
    for caption in ("layer 1, head 1", "layer 1, head 2", "layer 2, head 1", "Rows attend to columns.", "weight"):
        assert texts.count(caption) == 1
    save(tmp_path / "a.pdf", [weights()])
    assert b"/FontFile2" in (tmp_path / "a.pdf").read_bytes(), "TrueType (fonttype 42), not Type 3"
    assert b"/Type3" not in (tmp_path / "a.pdf").read_bytes()


def test_the_bar_says_what_lies_beyond_it(tmp_path: Path) -> None:
    save(tmp_path / "a.svg", [torch.tensor([[0.0, 0.2], [0.3, 1.4]])], queries=["a", "b"], keys=["c", "d"])
    assert {"0", "0.5", "1 or more"} <= set(svg_texts(tmp_path / "a.svg"))
    save(tmp_path / "b.svg", [weights()])
    assert {"0", "0.5", "1"} <= set(svg_texts(tmp_path / "b.svg"))


def rgb(colour: str) -> tuple[int, int, int]:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return red, green, blue


@pytest.mark.parametrize("most", [0.8, 1.6])
def test_weights_below_zero_are_orange_and_the_scale_has_two_sides(tmp_path: Path, most: float) -> None:
    signed, plain = torch.tensor([[-most, -0.2], [0.0, 0.2]]), torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    save(tmp_path / "a.svg", [signed, plain], queries=["a", "b"], keys=["c", "d"])
    top = max(1.0, most)
    for colour, value in zip(map(rgb, fills(tmp_path / "a.svg")), [*signed.flatten(), *plain.flatten()], strict=True):
        expected = signed_colour(float(value) / top)
        assert max(abs(a - b) for a, b in zip(colour, expected, strict=True)) <= 3
    assert {f"-{top:.3g}", "0", f"{top:.3g}"} <= set(svg_texts(tmp_path / "a.svg"))


def test_small_weights_are_not_drawn_white(tmp_path: Path) -> None:
    values = torch.tensor([[0.0, 0.002], [0.004, 0.005]])
    save(tmp_path / "a.svg", [values], queries=["a", "b"], keys=["c", "d"])
    for colour, value in zip(map(rgb, fills(tmp_path / "a.svg")), (0, 0.4, 0.8, 1), strict=True):
        assert max(abs(a - b) for a, b in zip(colour, weight_colour(value), strict=True)) <= 3
    assert {"weight, up to the largest one", "0.005"} <= set(svg_texts(tmp_path / "a.svg"))
    save(tmp_path / "b.svg", [-values], queries=["a", "b"], keys=["c", "d"])
    assert {"weight, up to the largest size", "-0.005", "0.005"} <= set(svg_texts(tmp_path / "b.svg"))
    save(tmp_path / "c.svg", [values, values + 0.25], queries=["a", "b"], keys=["c", "d"])
    assert {"weight", "1"} <= set(svg_texts(tmp_path / "c.svg"))


@pytest.mark.parametrize(("keys", "is_short"), [(1, True), (2, True), (7, False)])
def test_captions_do_not_touch(tmp_path: Path, keys: int, is_short: bool) -> None:
    rows = [[weights(keys=keys) for _ in range(11)] for _ in range(2)]
    words = ["w"] * keys
    save(tmp_path / "a.svg", *rows, keys=words)
    captions = [text for text in svg_texts(tmp_path / "a.svg") if text.endswith(("H11", "head 11"))]
    assert captions == (["L1 H11", "L2 H11"] if is_short else ["layer 1, head 11", "layer 2, head 11"])
    # Below the last panels stand captions alone, and between two of them is more paper than between two words.
    save(tmp_path / "a.png", *rows, keys=words, notes=())
    ink = (np.asarray(Image.open(tmp_path / "a.png").convert("L")) < 128)[-20:].any(0)
    gaps = "".join("x" if dark else "." for dark in ink).strip(".")
    assert len([gap for gap in re.findall(r"\.+", gaps) if len(gap) >= 40]) == 10


def test_without_notes_there_is_nothing_below(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(251)]
    save(tmp_path / "a.svg", [weights(queries=251, keys=251)], queries=words, keys=words, notes=())
    assert set(svg_texts(tmp_path / "a.svg")) >= {"layer 1, head 1", "weight"}
    assert not any("." in text and len(text) > 20 for text in svg_texts(tmp_path / "a.svg"))


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_figure_is_the_same_file(tmp_path: Path, suffix: str) -> None:
    for name in ("a", "b"):
        save(tmp_path / f"{name}.{suffix}", [weights()])
    assert (tmp_path / f"a.{suffix}").read_bytes() == (tmp_path / f"b.{suffix}").read_bytes()
    begins = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[suffix]
    assert (tmp_path / f"a.{suffix}").read_bytes().startswith(begins)


def test_someone_elses_settings_neither_matter_nor_change(tmp_path: Path) -> None:
    save(tmp_path / "a.svg", [weights()])
    with mpl.rc_context({"svg.fonttype": "path", "font.size": 30, "axes.facecolor": "red", "axes.grid": True}):
        before = dict(mpl.rcParams)
        save(tmp_path / "b.svg", [weights()])
        assert dict(mpl.rcParams) == before
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(("layers", "heads", "length"), [(1, 1, 1), (2, 3, 17), (1, 2, 251)])
def test_every_size_fits(tmp_path: Path, suffix: str, layers: int, heads: int, length: int) -> None:
    words = [f"word{number}" for number in range(length)]
    rows = [[weights(queries=length, keys=length) for _ in range(heads)] for _ in range(layers)]
    path = tmp_path / f"a.{suffix}"
    save(path, *rows, queries=words, keys=words)
    assert path.stat().st_size < 3e6
    if suffix == "svg":
        assert ("The words are left out: there is no room for them." in svg_texts(path)) == (length == 251)
        assert ("word0" in svg_texts(path)) == (length != 251)
    if suffix == "png":
        picture = np.asarray(Image.open(path).convert("RGB"))
        assert max(picture.shape[:2]) < 200 * 20
        # Nothing is cut off: paper all around.
        edge = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
        assert (edge == 255).all()


def test_a_large_figure_is_drawn_in_pixels_of_the_same_colours(tmp_path: Path) -> None:
    values = torch.zeros(251, 251)
    values[:, 100:] = 1.0
    words = ["w"] * 251
    save(tmp_path / "a.png", [values], queries=words, keys=words)
    colours = Image.open(tmp_path / "a.png").convert("RGB").getcolors(10**6)
    assert colours is not None
    most = {colour for _, colour in sorted(colours, reverse=True)[:3]}
    assert {weight_colour(0.0), weight_colour(1.0)} <= most


def test_letters_without_a_font_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure, "_FALLBACK_FONTS", ())
    keys = ["été", "🐶日", "שלום", "日", "x\u200dy"]
    assert save(tmp_path / "a.png", [weights()], keys=keys) == "🐶日"
    assert save(tmp_path / "a.pdf", [weights()], keys=keys) == "🐶日"
    assert save(tmp_path / "a.svg", [weights()], keys=keys) == ""


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    odd = weights()
    odd[1, 2] = value
    path = tmp_path / "a.png"
    path.write_bytes(b"before")
    with pytest.raises(UserError, match=r"a\.png: there are numbers to draw that are not finite"):
        save(path, [weights(), odd])
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.gif", r"--figure .*a\.gif: its end says the format, known: pdf, png, svg"),
        ("a.pgn", r"did you mean 'png'"),
        ("a", r"its end says the format"),
        ("nowhere/a.png", r"--figure .*: there is no folder .*nowhere"),
        ("folder.png", r"--figure .*folder\.png: this is a folder"),
        ("file.txt/a.png", r"there is no folder .*file\.txt"),
    ],
)
def test_where_no_figure_can_be_is_refused(tmp_path: Path, name: str, says: str) -> None:
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file.txt").touch()
    with pytest.raises(UserError, match=says):
        check_figure_path(tmp_path / name)
    with pytest.raises(UserError, match=says):
        save(tmp_path / name, [weights()])


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whoever runs the tests as root may write everywhere.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match=r"a\.png: the folder .* cannot be written to"):
        check_figure_path(tmp_path / "a.png")


def test_a_figure_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"before")

    def full(self: Path, content: bytes) -> int:
        self.open("wb").close()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(UserError, match=r"a\.png: it cannot be written: No space left on device"):
        save(path, [weights()])
    assert path.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_cleaned_up_hides_no_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, *arguments: object) -> None:
        raise OSError(5, "Input/output error" if arguments else "Stale file handle")

    monkeypatch.setattr(Path, "write_bytes", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UserError, match=r"a\.png: it cannot be written: Input/output error"):
        save(tmp_path / "a.png", [weights()])


def test_a_name_may_be_as_long_as_the_file_system_takes_and_no_longer(tmp_path: Path) -> None:
    longest = tmp_path / f"{'a' * 251}.png"
    save(longest, [weights()])
    assert list(tmp_path.iterdir()) == [longest]
    for path in (tmp_path / f"{'a' * 252}.png", tmp_path / f"{'a' * 5000}.png", tmp_path / ("a" * 5000) / "a.png"):
        with pytest.raises(UserError, match=r"it cannot be written: File name too long|there is no folder"):
            save(path, [weights()])
    assert list(tmp_path.iterdir()) == [longest]


def test_pyplot_is_never_loaded(tmp_path: Path) -> None:
    program = (
        "import sys, torch\nfrom pathlib import Path\n"
        "from attnframe.patterns.pictures.figure import Panel, save_figure\n"
        f"save_figure(Path({str(tmp_path / 'a.png')!r}), [[Panel('', '', torch.eye(2))]], query_labels=['a', 'b'], "
        "key_labels=['c', 'd'], scale='')\nprint('matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
