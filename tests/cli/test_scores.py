"""The scores of a run as they are printed."""

from __future__ import annotations

import pytest

from attnframe.cli.scores import print_scores

MEASURES = ("exact_match", "bleu", "chrf", "loss", "aer", "aer_norms", "aer_mean_heads", "aer_diagonal", "aer_perfect")
SETS = ("test", "unseen_pairs", "composition", "longer")


def results(*, without: str = "") -> dict[str, float]:
    """The value of a measure says where it stands: hundreds for the set, ones for the measure."""
    return {
        f"test/{'' if name == 'test' else f'{name}/'}{measure}": 100.0 * (row + 1) + column
        for row, name in enumerate(SETS)
        for column, measure in enumerate(MEASURES)
        if measure != without
    }


def test_in_a_pipe_headings_are_the_keys(capsys: pytest.CaptureFixture[str]) -> None:
    print_scores(results(without="aer_norms"))
    header, *rows = (line.split("\t") for line in capsys.readouterr().out.splitlines())
    assert header == ["set", *(measure for measure in MEASURES if measure != "aer_norms")]
    assert [row[0] for row in rows] == list(SETS)
    assert rows[2][1 + header.index("aer_mean_heads") - 1] == "306.0"


def test_on_a_terminal_all_of_it_fits_into_100_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("LINES", "24")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    print_scores(results())
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 100
    lines = [line.split() for line in printed.splitlines()]
    for row, name in enumerate(SETS):
        values = [f"{100.0 * (row + 1) + column:.1f}" for column in range(len(MEASURES))]
        assert [name, *values] in lines
    assert {word for measure in MEASURES for word in measure.split("_")} <= {word for line in lines for word in line}
