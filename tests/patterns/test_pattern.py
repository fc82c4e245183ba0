"""What is missing among patterns, told to a person."""

from __future__ import annotations

import torch

from attnframe.attention import PatternKind
from attnframe.patterns import Pattern, Patterns, missing_sentences
from attnframe.patterns.pattern import named_places


def test_a_place_has_a_pattern_or_a_reason() -> None:
    patterns, pattern = Patterns(), Pattern(torch.ones(1, 2, 3, 5), PatternKind.SIGNED)
    patterns.leave_out(("cross", 1), "a reason")
    patterns.add(("cross", 0), pattern)
    assert (dict(patterns), patterns.missing) == ({("cross", 0): pattern}, {("cross", 1): "a reason"})
    assert patterns.layers("cross") == [pattern.weights]
    patterns.add(("cross", 1), pattern)
    patterns.leave_out(("cross", 0), "another")
    assert (dict(patterns), patterns.missing) == ({("cross", 1): pattern}, {("cross", 0): "another"})
    assert patterns.get(("cross", 0)) is None


def test_a_sentence_for_each_reason_names_all_its_places() -> None:
    assert missing_sentences({}) == []
    missing = {("encoder_self", 1): "b", ("cross", 10): "a", ("cross", 2): "a", ("encoder_self", 0): "a"}
    assert missing_sentences(missing) == [
        "no patterns at cross layers 3 and 11, encoder_self layer 1: a",
        "no patterns at encoder_self layer 2: b",
    ]
    assert named_places([("cross", 1), ("cross", 0)]) == "cross layers 1 and 2"
