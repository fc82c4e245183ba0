"""Which aligns words better, attention weights or norm-based contributions: AER of both over runs that differ by seed.

    python benchmarks/norms_against_weights.py DIR DIR DIR ...

Each run reads the test sets of its own data. Head, layer and reading are chosen on its validation set, by weights for
the weights and by contributions for the contributions: the best head, and the best layer with all of its heads (the
mean of their weights; the norm of what they add together). Printed are the AER of each, their difference over the runs
with its 95 % t-interval, and the same difference for all heads of the last layer alike, without any choice.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Iterable
from pathlib import Path

import torch
from scipy.stats import t as student

from attnframe import load_run, record_patterns
from attnframe.data.batching import Example, TokenBatchSampler, collate
from attnframe.data.schema import Corpus, SentencePair
from attnframe.data.sources import corpus_of
from attnframe.patterns.head_alignment import AlignmentScore, HeadAlignment, LinkedSentence
from attnframe.runs.loading import Run

MAX_TOKENS = 8192

AERs = tuple[float, float]  # by weights, by contributions


@torch.no_grad()
def table(run: Run, pairs: list[SentencePair]) -> list[HeadAlignment]:
    """How each head aligns the pairs."""
    src, tgt = run.src_tokenizer, run.tgt_tokenizer
    examples = [Example(i, src.encode(pair.source), tgt.encode(pair.target)) for i, pair in enumerate(pairs)]
    lengths = [(len(example.src_ids), len(example.tgt_ids)) for example in examples]
    score = AlignmentScore()
    for rows in TokenBatchSampler(lengths, max_tokens=MAX_TOKENS, seed=0, shuffle=False):
        batch = collate([examples[row] for row in rows])
        with record_patterns(run.model, sites=("cross",), contributions=True) as patterns:
            run.model(batch.src, batch.src_keep, batch.tgt_in)
        sentences = {}
        for row, index in enumerate(batch.indices.tolist()):
            pair = pairs[index]
            assert pair.alignment is not None
            sentences[row] = LinkedSentence(src.word_ids(pair.source), tgt.word_ids(pair.target), pair.alignment)
        score.add({layer: pattern for (_, layer), pattern in patterns.items()}, sentences)
    return score.table()


def aers(validation: list[HeadAlignment], test: list[HeadAlignment]) -> dict[str, AERs]:
    """By the way of reading, the AER of weights and of contributions on the test set."""
    there = {row.place: row for row in test}
    found = {}
    for name, of_layers in (("best head", False), ("best layer", True)):
        rows = [row for row in validation if (row.head is None) is of_layers]
        by_weights = there[min(rows, key=lambda row: row.aer).place]
        by_norms = there[min(rows, key=lambda row: norms(row)).place]
        found[name] = by_weights.aer, norms(by_norms)
    last = max(row.layer for row in test)
    heads = [row for row in test if row.layer == last and row.head is not None and row.reading == "predicts"]
    found["mean over heads of the last layer"] = (
        statistics.mean(row.aer for row in heads),
        statistics.mean(norms(row) for row in heads),
    )
    return found


def norms(row: HeadAlignment) -> float:
    assert row.aer_norms is not None, "this run has no contributions"
    return row.aer_norms


def interval(differences: list[float]) -> str:
    """Mean and 95 % t-interval over runs."""
    mean = statistics.mean(differences)
    if len(differences) < 2:
        return f"{mean:+.4f}"
    half = student.ppf(0.975, len(differences) - 1) * statistics.stdev(differences) / math.sqrt(len(differences))
    return f"{mean:+.4f} [{mean - half:+.4f}, {mean + half:+.4f}]"


def main(folders: Iterable[str]) -> None:
    """Print a row for each test set and way of reading."""
    found: dict[tuple[str, str], list[AERs]] = {}
    for folder in folders:
        run = load_run(Path(folder))
        corpus: Corpus = corpus_of(run.settings["data"])
        validation = table(run, list(corpus.sets["val"]))
        for name in corpus.test_sets:
            for reading, both in aers(validation, table(run, list(corpus.sets[name]))).items():
                found.setdefault((name, reading), []).append(both)
    print("set\tread from\tAER of weights, a run each\tAER of contributions\tcontributions - weights [95 %]")
    for (name, reading), both in found.items():
        columns = [" ".join(f"{aer:.4f}" for aer in column) for column in zip(*both, strict=True)]
        print(name, reading, *columns, interval([by_norms - by_weights for by_weights, by_norms in both]), sep="\t")


if __name__ == "__main__":
    main(sys.argv[1:])
