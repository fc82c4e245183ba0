"""What is said of words outside the vocabulary."""

from __future__ import annotations

import pytest

from attnframe.cli.unseen_words import say_unseen


def test_what_was_never_seen_and_what_was_never_written_so_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    say_unseen(["quokka", ".", "dog", "quokka", "\x1b"], {".": True, "dog": False})
    say_unseen([".", "le"], {".": True, "le": False}, " of the target")
    say_unseen([], {})
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == [
        r"words that this run has never seen: quokka, \u001b",
        "words that this run has seen, but never written so: . (after a space), dog (without a space before it)",
        "words of the target that this run has seen, but never written so: . (after a space), "
        "le (without a space before it)",
    ]
