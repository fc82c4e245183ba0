"""The settings of the tokenizers, from the config through training to what a run leaves."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import logging
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_run import tiny_data, tiny_run, tiny_settings
from torch import Tensor
from torch.testing import assert_close

from attnframe.data import grammar
from attnframe.data.batching import Example, collate
from attnframe.data.schema import Alignment, Corpus, SentencePair
from attnframe.data.tokenizer import Tokenizer, tokenizer_from_state
from attnframe.data.words import split_words
from attnframe.errors import UserError
from attnframe.model import Seq2Seq
from attnframe.patterns import record_patterns
from attnframe.runs.building import attention_factory, build_model
from attnframe.training import data_module

BPE = ("data.tokenizer=bpe", "data.lowercase=true", "data.vocab_size=97")


@pytest.fixture(autouse=True)
def _apart(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path_factory.getbasetemp())
    for name in ("ATTNFRAME_LAUNCH", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(name, "")


@functools.cache
def capitalised() -> Corpus:
    """The sentences of a tiny run, in capitals here and there."""
    corpus = grammar.load(train_size=300, val_size=13, test_size=11, held_out_size=7)

    def change(index: int, pair: SentencePair) -> SentencePair:
        source = pair.source.title() if index % 2 else pair.source
        return dataclasses.replace(pair, source=source, target=pair.target.capitalize())

    sets = {name: tuple(itertools.starmap(change, enumerate(pairs))) for name, pairs in corpus.sets.items()}
    return dataclasses.replace(corpus, sets=sets)


@pytest.fixture(scope="module")
def pieces_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pieces") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data_module, "corpus_of", lambda _: capitalised())
        tiny_run(path, *BPE)
    return path


def tokenizers_of(path: Path) -> tuple[Tokenizer, Tokenizer]:
    states = json.loads((path / "tokenizers.json").read_text(encoding="utf-8"))
    return tokenizer_from_state(states["source"]), tokenizer_from_state(states["target"])


def results_of(path: Path) -> dict[str, Any]:
    results: dict[str, Any] = json.loads((path / "results.json").read_text(encoding="utf-8"))
    return results


def by_hand(weights: Tensor, query_words: list[int], key_words: list[int]) -> Tensor:
    """[heads, query, key] summed over the pieces of a key word and averaged over those of a query word."""
    rows = [weights[:, [i for i, w in enumerate(query_words) if w == word]].mean(1) for word in sorted({*query_words})]
    stacked = torch.stack(rows, dim=1)
    columns = [stacked[..., [i for i, w in enumerate(key_words) if w == word]].sum(-1) for word in sorted({*key_words})]
    return torch.stack(columns, dim=-1)


def trained_model(path: Path) -> Seq2Seq:
    settings = json.loads((path / "manifest.json").read_text(encoding="utf-8"))["settings"]
    src, tgt = tokenizers_of(path)
    model = build_model(settings, attention_factory(settings), src_vocab_size=len(src), tgt_vocab_size=len(tgt))
    state = torch.load(path / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    model.load_state_dict({key.removeprefix("model."): value for key, value in state.items()})
    return model.eval()


def test_patterns_of_a_run_with_pieces_are_between_words(pieces_run: Path) -> None:
    src, tgt = tokenizers_of(pieces_run)
    model = trained_model(pieces_run)
    several = 0
    for file in sorted((pieces_run / "patterns" / "step_000020").glob("*.npz")):
        arrays = np.load(file)
        source = arrays["encoder_self/key_labels"].tolist()
        (pair,) = [pair for pair in capitalised().sets["val"] if [*split_words(pair.source.lower()), "<eos>"] == source]
        words = [*split_words(pair.target.lower()), "<eos>"]
        target = ["<bos>", *words[:-1]]
        batch = collate([Example(0, src.encode(pair.source), tgt.encode(pair.target))])
        with torch.no_grad(), record_patterns(model) as patterns:
            model(batch.src, None, batch.tgt_in)
        src_words = [*src.word_ids(pair.source), len(source) - 1]
        read = [0, *(word + 1 for word in tgt.word_ids(pair.target))]
        said = [*tgt.word_ids(pair.target), len(target) - 1]
        sides = {"encoder_self": (src_words, src_words), "decoder_self": (read, read), "cross": (said, src_words)}
        labels = {"encoder_self": (source, source), "decoder_self": (target, target), "cross": (words, source)}
        for site, (queries, keys) in sides.items():
            assert (arrays[f"{site}/query_labels"].tolist(), arrays[f"{site}/key_labels"].tolist()) == labels[site]
            for layer in range(2):
                found = torch.from_numpy(arrays[f"{site}/layer_{layer}"])
                assert found.shape == (2, len(labels[site][0]), len(labels[site][1]))
                assert_close(found.sum(-1), torch.ones(found.shape[:2]), rtol=0, atol=1e-5)
                assert_close(found, by_hand(patterns[site, layer].weights[0], queries, keys), rtol=0, atol=2e-6)
            assert (file.parent / f"{file.stem}_{site}.png").stat().st_size > 1000
        several += len(read) - len(target) + len(src_words) - len(source)
    assert several > 10, "then words and pieces are the same here"


def test_a_run_with_pieces_writes_what_others_write(pieces_run: Path) -> None:
    results = results_of(pieces_run)
    src, tgt = tokenizers_of(pieces_run)
    assert (pieces_run / "DONE").exists()
    assert (len(src), len(tgt)) == (97, 97)
    assert src.lowercase
    assert tgt.lowercase
    vocabulary = json.loads((pieces_run / "manifest.json").read_text(encoding="utf-8"))["vocabulary"]
    assert vocabulary == {"source": 97, "target": 97}
    assert 0 < results["test/aer_perfect"] < results["test/aer"] < 1
    assert results["test/unknown_src_words"] == results["test/unknown_tgt_words"] == 0
    assert "case:lc" in results["signature/bleu"]
    lines = (pieces_run / "predictions.tsv").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[3] for line in lines[1:12]] == [pair.target for pair in capitalised().sets["test"]]


def test_unknown_words_are_counted_set_by_set(tmp_path: Path) -> None:
    tiny_run(tmp_path / "run", "data.min_count=3", "callbacks.patterns.sentences=0")
    results = results_of(tmp_path / "run")
    corpus = tiny_data().corpus
    for side, key in (("source", "unknown_src_words"), ("target", "unknown_tgt_words")):
        counts = Counter(word for pair in corpus.sets["train"] for word in split_words(getattr(pair, side)))
        for name in corpus.test_sets:
            words = [word for pair in corpus.sets[name] for word in split_words(getattr(pair, side))]
            expected = sum(counts[word] < 3 for word in words)
            assert results[f"test/{key}" if name == "test" else f"test/{name}/{key}"] == expected > 0


def test_the_log_says_how_much_is_unknown(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="attnframe"):
        data = tiny_data("data.vocab_size=53")
    words = [word for pair in data.corpus.sets["val"] for word in split_words(pair.source)]
    known = set(data.src_tokenizer.state_dict()["words"])
    unknown = sum(word not in known for word in words)
    share = f"{100 * unknown / len(words):.2f} %"
    assert unknown > 5
    assert f"{unknown} of {len(words)} source words ({share})" in caplog.text
    assert "target words" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_by_default_nothing_changes() -> None:
    settings = tiny_settings()["data"]
    assert (settings["lowercase"], settings["normalization"]) == (False, "NFC")
    assert (settings["min_count"], settings["vocab_size"]) == (1, None)
    plain = tiny_data("data.normalization=null")
    data = tiny_data()
    assert data.corpus.hash() == plain.corpus.hash()
    for side in ("src_tokenizer", "tgt_tokenizer"):
        known, without = getattr(data, side).state_dict(), getattr(plain, side).state_dict()
        assert known["words"] == without["words"]
        assert (known["normalization"], without["normalization"]) == ("NFC", None)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (("data.tokenizer=bpe", "data.min_count=2"), r"data\.min_count=2: the tokenizer 'bpe' has no option"),
        (("data.tokenizer=bpr",), r"data\.tokenizer=bpr: .*did you mean 'bpe'"),
        (("data.tokenizer=bpe", "data.vocab_size=5"), r"data\.vocab_size=5: it must be \d+ or more"),
        (("data.normalization=NFD",), r"data\.normalization=NFD: .*known: NFC, NFKC\), or null"),
        (("data.min_count=0",), r"data\.min_count=0: it must be a whole number from 1 on"),
    ],
)
def test_what_makes_no_tokenizer_is_refused(overrides: tuple[str, ...], says: str) -> None:
    with pytest.raises(UserError, match=says):
        tiny_data(*overrides)


def test_a_form_that_rewrites_references_is_warned_of(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = [SentencePair(str(i), "a word", "un\u00a0mot") for i in range(5)]
    rare = [SentencePair(str(i), "the end", "la ﬁn") for i in range(5, 7)]
    corpus = Corpus(dict.fromkeys(("train", "val", "test"), (*plain, *rare)))
    monkeypatch.setattr(data_module, "corpus_of", lambda _: corpus)
    with caplog.at_level(logging.WARNING, logger="attnframe"):
        tiny_data("data.normalization=NFC")
        assert not caplog.records
        tiny_data("data.normalization=NFKC")
    assert "data.normalization=NFKC rewrites 2 of 7 validation references" in caplog.text


def test_a_form_that_changes_linked_words_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    linked = SentencePair("test-0", "summer", "e\u0301te\u0301", Alignment(frozenset({(0, 0)})))
    plain = (SentencePair("a", "a word", "un mot"),)
    corpus = Corpus({"train": plain, "val": plain, "test": (linked,)})
    monkeypatch.setattr(data_module, "corpus_of", lambda _: corpus)
    with pytest.raises(UserError, match=r"data\.normalization=NFC: .*test-0"):
        tiny_data()
    tiny_data("data.normalization=null")
