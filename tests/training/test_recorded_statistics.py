"""Statistics of a model's heads are the same whether its patterns are held or, for one is too large, summed up."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_run import tiny_data, tiny_run

from attnframe import load_run
from attnframe.data.schema import SentencePair
from attnframe.model import SITES, Seq2Seq
from attnframe.patterns.statistics import HeadStatistics
from attnframe.training import recorded_statistics as module
from attnframe.training.recorded_statistics import recorded_statistics

PAIRS = 7
SHORT_RUN = ("trainer.max_steps=2", "callbacks.patterns.sentences=0", "callbacks.patterns.statistics=0")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Seq2Seq:
    """Its second cross-attention mixes its weights between heads, and so is no softmax of one `attend`."""
    path = tmp_path_factory.mktemp("statistics") / "run"
    tiny_run(path, *SHORT_RUN, "layers.cross=[{name:low_rank_v,rank:3},talking_heads]")
    return load_run(path).model


@pytest.fixture
def pairs() -> Sequence[SentencePair]:
    """The longest comes last, so that each one more asks for more room."""
    return sorted(tiny_data().corpus.sets["val"][:PAIRS], key=lambda pair: len(pair.source) + len(pair.target))


def lengths(pairs: Sequence[SentencePair]) -> list[int]:
    return [1 + max(len(example.src_ids), len(example.tgt_ids)) for example in tiny_data().encode(pairs)]


def statistics(model: Seq2Seq, pairs: Sequence[SentencePair]) -> dict[tuple[str, int, int], HeadStatistics]:
    rows, missing = recorded_statistics(model, tiny_data(), pairs)
    assert missing == {}
    places = [(row.site, row.layer, row.head) for row in rows]
    assert places == sorted(places)
    return dict(zip(places, rows, strict=True))


def forbid_recording(monkeypatch: pytest.MonkeyPatch, *allowed: str) -> None:
    """Patterns may be held at the `allowed` sites only."""
    whole = module.record_patterns

    def guarded(of: Seq2Seq, *, sites: Sequence[str], **rest: Any) -> contextlib.AbstractContextManager[Any]:
        assert set(sites) <= set(allowed)
        return whole(of, sites=sites, **rest)

    monkeypatch.setattr(module, "record_patterns", guarded)


def test_long_sentences_are_summed_up_to_the_same_numbers(
    monkeypatch: pytest.MonkeyPatch, model: Seq2Seq, pairs: Sequence[SentencePair]
) -> None:
    held = statistics(model, pairs[-1:])
    monkeypatch.setattr(module, "_MOST_HELD", max(lengths(pairs)) ** 2 - 1)
    # What cannot be summed up is recorded all the same.
    forbid_recording(monkeypatch, "cross")
    found = statistics(model, pairs[-1:])
    assert found.keys() == held.keys()
    assert {site for site, _, _ in held} == set(SITES)
    for place, row in found.items():
        assert dataclasses.astuple(row) == pytest.approx(dataclasses.astuple(held[place]), abs=1e-5, nan_ok=True)


def test_as_many_pairs_as_may_be_held_and_one_in_any_case(
    monkeypatch: pytest.MonkeyPatch, model: Seq2Seq, pairs: Sequence[SentencePair]
) -> None:
    place = "decoder_self", 0, 0
    rows = [len(tiny_data().tgt_tokenizer.encode(pair.target)) + 1 for pair in pairs]
    room = PAIRS * max(lengths(pairs)) ** 2
    for most_held, expected in ((room, PAIRS), (room - 1, PAIRS - 1), (1, 1)):
        monkeypatch.setattr(module, "_MOST_HELD", most_held)
        assert statistics(model, pairs)[place].rows == sum(rows[:expected])


def test_where_nothing_needs_its_weights_none_are_held(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pairs: Sequence[SentencePair]
) -> None:
    tiny_run(tmp_path / "run", *SHORT_RUN)
    plain = load_run(tmp_path / "run").model
    monkeypatch.setattr(module, "_MOST_HELD", 1)
    forbid_recording(monkeypatch)
    assert len(statistics(plain, pairs)) == 12


def test_weights_that_are_no_numbers_are_so_either_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pairs: Sequence[SentencePair]
) -> None:
    tiny_run(tmp_path / "run", *SHORT_RUN)
    diverged = load_run(tmp_path / "run").model
    with torch.no_grad():
        diverged.decoder[1].cross_attention.query_proj.weight[0] = torch.nan
    held = statistics(diverged, pairs[:1])
    assert math.isnan(held["cross", 1, 0].entropy)
    monkeypatch.setattr(module, "_MOST_HELD", 1)
    for place, row in statistics(diverged, pairs).items():
        assert dataclasses.astuple(row) == pytest.approx(dataclasses.astuple(held[place]), abs=1e-5, nan_ok=True)
