"""Pictures of a snapshot: what they say, what cannot be drawn, and that only the last state is drawn."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from PIL import Image

from attnframe.attention import PatternKind
from attnframe.data.schema import Alignment
from attnframe.patterns import Pattern, Patterns
from attnframe.patterns.pictures.drawing import draw_patterns
from attnframe.runs.folder import RunFolder
from attnframe.runs.pattern_pictures import draw_last_patterns, draw_snapshot, stack_layers
from attnframe.runs.sentence_patterns import SentencePatterns
from attnframe.runs.snapshots import Snapshot, snapshot_file, write_snapshot

LABELS = (["un", "deux", "<eos>"], ["one", "two", "three", "four", "<eos>"])
LINKS = Alignment(frozenset({(0, 0)}), frozenset({(3, 1)}))


def snapshot(kind: PatternKind = PatternKind.PROBABILITY, *, diverged: str = "") -> Snapshot:
    patterns = Patterns()
    labels = {"cross": LABELS, "encoder_self": (LABELS[1], LABELS[1])}
    for number, (site, (queries, keys)) in enumerate(labels.items()):
        for layer, heads in enumerate((2, 1)):
            generator = torch.Generator().manual_seed(7 * number + layer)
            weights = torch.randn(1, heads, len(queries), len(keys), generator=generator).softmax(-1)
            if site == diverged:
                weights[0, 0, 1, 2] = float("nan")
            patterns.add((site, layer), Pattern(weights, kind))
    return Snapshot(SentencePatterns("one two three four", "un deux", labels, patterns), LINKS)


def test_pictures_say_what_they_are_of() -> None:
    drawn = draw_snapshot(snapshot(), 300, {"val/loss": 0.12345, "val/aer": 0.0625})
    assert {site: caption for site, (_, caption) in drawn.items()} == {
        "cross": "one two three four | each row says its word, step 300, val loss 0.123, AER 0.062",
        "encoder_self": "one two three four | step 300, val loss 0.123",
    }
    _, caption = draw_snapshot(snapshot(PatternKind.SIGNED), 7, {})["cross"]
    assert caption == "one two three four | each row says its word, step 7, weights: signed"


def test_the_picture_is_that_of_the_weights_with_the_gold_links() -> None:
    patterns = snapshot().patterns
    layers = [patterns["cross", layer].weights for layer in range(2)]
    stacked = stack_layers(layers)
    assert stacked.shape == (2, 2, 3, 5)
    assert torch.equal(stacked[0], layers[0])
    assert torch.equal(stacked[1, :1], layers[1])
    assert not stacked[1, 1].any()
    picture, caption = draw_snapshot(snapshot(), 5, {})["cross"]
    words = {"query_labels": LABELS[0], "key_labels": LABELS[1]}
    title, subtitle = "cross: one two three four", caption.partition(" | ")[2]
    expected = draw_patterns(stacked, **words, title=title, subtitle=subtitle, alignment=LINKS)
    assert picture.tobytes() == expected.tobytes()
    without = draw_patterns(stacked, **words, title=title, subtitle=subtitle)
    assert picture.tobytes() != without.tobytes()


def test_what_has_diverged_is_not_drawn_and_the_log_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        drawn = draw_snapshot(snapshot(diverged="cross"), 40, {})
    assert list(drawn) == ["encoder_self"]
    (record,) = caplog.records
    assert record.getMessage() == (
        "step 40: the patterns at cross were not drawn: attention weights hold NaN or infinity"
    )


def test_what_has_no_pattern_is_not_drawn_and_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    partial = snapshot()
    partial.patterns.patterns.leave_out(("cross", 0), "a reason")
    for layer in range(2):
        partial.patterns.patterns.leave_out(("encoder_self", layer), "a reason")
    with caplog.at_level(logging.INFO):
        drawn = draw_snapshot(partial, 5, {})
    assert caplog.records == []
    assert list(drawn) == ["cross"]
    picture, caption = drawn["cross"]
    words = {"query_labels": LABELS[0], "key_labels": LABELS[1]}
    title, subtitle = "cross: one two three four", caption.partition(" | ")[2]
    weights = snapshot().patterns["cross", 1].weights[None]
    expected = draw_patterns(weights, **words, layers=[1], title=title, subtitle=subtitle, alignment=LINKS)
    assert picture.tobytes() == expected.tobytes()


def test_the_last_state_is_drawn_with_its_scores(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    draw_last_patterns(folder)
    for step in (10, 20):
        for sentence in range(2):
            write_snapshot(snapshot_file(folder, step, sentence), snapshot())
    folder.metrics.write_text("step,val/loss,val/aer\n10,2.0,0.5\n20,1.0,0.25\n", encoding="utf-8")
    draw_last_patterns(folder)
    assert sorted(file.relative_to(folder.patterns).as_posix() for file in folder.patterns.rglob("*.png")) == [
        f"step_000020/sentence_{sentence}_{site}.png" for sentence in range(2) for site in ("cross", "encoder_self")
    ]
    picture, _ = draw_snapshot(snapshot(), 20, {"val/loss": 1.0, "val/aer": 0.25})["cross"]
    with Image.open(folder.patterns / "step_000020" / "sentence_1_cross.png") as saved:
        assert saved.tobytes() == picture.tobytes()
