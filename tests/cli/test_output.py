"""Tables at a terminal: they keep within it, whatever its width."""

from __future__ import annotations

import re

import pytest

from attnframe.cli.output import print_table

COLUMNS = ["name", "about", "place", "parameters"]
ROWS = [
    [
        "one_name",
        "some words that wrap where they have to",
        "a_folder/of_a_file_with_a_long_name.py",
        1234567,
    ],
    ["another_name", "", "b.py", None],
    ["c", "[brackets] and a_word_that_is_longer_than_some_terminals_are", None, 8],
]


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], request: pytest.FixtureRequest) -> str:
    monkeypatch.setenv("COLUMNS", str(request.param))
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_table(COLUMNS, ROWS)
    return capsys.readouterr().out


@pytest.mark.parametrize("printed", [31, 61, 79, 97, 211], indirect=True)
def test_it_keeps_within_the_terminal_and_loses_nothing(printed: str, request: pytest.FixtureRequest) -> None:
    width = request.node.callspec.params["printed"]
    assert max(map(len, printed.splitlines())) <= width
    for row in ROWS:
        for value in row:
            text = f"{value:,}" if isinstance(value, int) else value or ""
            # A long word is cut: then its beginning is at the end of a line.
            assert all(re.search(re.escape(word[:5]), printed) for word in text.split())
    assert {"one_name", "another_name", "1,234,567"} <= set(printed.split())


@pytest.mark.parametrize("printed", [211], indirect=True)
def test_a_wide_one_has_a_line_for_each_row(printed: str) -> None:
    header, *lines = printed.splitlines()
    assert header.split() == COLUMNS
    assert [line.split()[0] for line in lines] == ["one_name", "another_name", "c"]
    assert lines[0].rstrip().endswith("a_folder/of_a_file_with_a_long_name.py   1,234,567")


@pytest.mark.parametrize("printed", [50], indirect=True)
def test_in_a_narrow_one_rows_stand_below_each_other(printed: str) -> None:
    lines = [line.rstrip() for line in printed.splitlines()]
    assert [line for line in lines if not line.startswith(" ")] == ["one_name", "another_name", "c"]
    assert "  parameters  1,234,567" in lines
    # What is empty has no line.
    start = lines.index("another_name")
    assert lines[start + 1 : start + 3] == ["  place       b.py", "c"]
