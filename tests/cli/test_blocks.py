"""Tables on a terminal that is too narrow for them."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from attnframe.cli.blocks import Block, _rich

COLUMNS = ("reads", "says", "‖E‖", "‖ΔE‖ of head 3", "‖ΔE‖ of all heads and bias", "cos(E, E + ΔE)")
ROWS = [("<bos>", "gros", "123.456", "1.000", "22.125", "-0.250"), ("gros", "<eos>", "0.500", "", "7.875", "0.375")]


def lines(block: Block, width: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width)
    for renderable in _rich(block, console):
        console.print(renderable)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [24, 31, 40, 57, 200])
def test_no_number_is_cut_in_two(width: int) -> None:
    printed = lines(Block("", COLUMNS, ROWS, words=2), width)
    assert max(map(len, printed)) <= width
    for row in ROWS:
        found = [line.split() for line in printed if line.split()[:2] == list(row[:2])]
        assert [cell for cells in found for cell in cells[2:]] == [cell for cell in row[2:] if cell]
        assert (len(found) == 1) == (width >= 57), "beside one another where there is room"
    assert " ".join(COLUMNS) in " ".join(printed[0].split()) or width < 200


def test_a_heading_of_words_breaks_between_them() -> None:
    printed = " ".join(lines(Block("", COLUMNS, ROWS, words=2), 40))
    for word in " ".join(COLUMNS).split():
        assert word in printed.split()


def test_text_without_columns_is_not_folded() -> None:
    text = "parts of words, and so on for very long"
    assert " ".join(" ".join(lines(Block("", (), [("tokens", text)]), 25)).split()) == f"tokens {text}"
