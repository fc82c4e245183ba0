"""What each test sentence adds to the scores of a run: written, read, or made of its predictions."""

from __future__ import annotations

import csv
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnframe.errors import UserError

Counts = NDArray[Any]
"""[sentences, counts] of one measure, for the corpus to be scored from their sums."""

FILE = "sentence_statistics.npz"


@dataclass(frozen=True)
class SentenceStatistics:
    """One test set: the ids of its sentences in their order, and by measure what each sentence adds to the score.

    - `exact_match`: (1 where the translation is a reference, 1)
    - `bleu`: sacreBLEU's (length, reference length, n-grams that match for n = 1 to 4, n-grams there are)
    - `chrf`: sacreBLEU's (n-grams of the translation, of the reference, in both), for each n from 1 to 6
    - `loss`: (nats, target tokens), where it was measured
    - `aer`: (links that are sure, that are possible, links given, sure links), where there are gold links
    """

    ids: tuple[str, ...]
    counts: Mapping[str, Counts]


def text_counts(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], *, lowercase: bool, measures: Sequence[str]
) -> dict[str, Counts]:
    """Those of "bleu" and "chrf" that are in `measures`; `references` are all those of each sentence."""
    # Here, for who reads statistics that are written down needs no sacreBLEU.
    from sacrebleu.metrics.bleu import BLEU
    from sacrebleu.metrics.chrf import CHRF

    makers = {"bleu": BLEU, "chrf": CHRF}
    streams = list(zip_longest(*references))
    found = {}
    for name in measures:
        if name in makers:
            metric = makers[name](lowercase=lowercase)
            # What sacreBLEU's own significance tests resample; it has no public name.
            rows = metric._extract_corpus_statistics(hypotheses, streams) if hypotheses else []
            found[name] = np.array(rows, dtype=np.int32).reshape(len(hypotheses), -1)
    return found


def exact_counts(exact: Sequence[bool]) -> Counts:
    """The counts of `exact_match`."""
    return np.stack([np.array(exact, dtype=np.int32), np.ones(len(exact), dtype=np.int32)], axis=1)


def write_sentence_statistics(folder: Path, sets: Mapping[str, SentenceStatistics]) -> None:
    """Write the file into `folder`, in full or not at all: `<set>/ids` and `<set>/<measure>`."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, statistics in sets.items():
        # As bytes, a quarter of what numpy takes for text.
        arrays[f"{name}/ids"] = np.array([key.encode() for key in statistics.ids], dtype=np.bytes_)
        arrays |= {f"{name}/{measure}": counts for measure, counts in statistics.counts.items()}
    partial = folder / f".{FILE}.partial"
    with partial.open("wb") as opened:
        np.savez_compressed(opened, **arrays)  # type: ignore[arg-type]
    partial.replace(folder / FILE)


def read_sentence_statistics(
    folder: Path, measures: Sequence[str], sets: Sequence[str]
) -> dict[str, SentenceStatistics]:
    """The statistics of the run in `folder` by set, of those `measures` and `sets` that it has.

    A run without the file, of a version that left none, has those that follow from its predictions.tsv; nothing is
    written. Raises `UserError` for a damaged file.
    """
    file = folder / FILE
    if not file.exists():
        return _from_predictions(folder, measures, sets)
    try:
        with file.open("rb") as opened, np.load(opened) as archive:
            return {
                name: SentenceStatistics(
                    tuple(key.decode() for key in archive[f"{name}/ids"].tolist()),
                    {measure: archive[f"{name}/{measure}"] for measure in measures if f"{name}/{measure}" in archive},
                )
                for name in sets
                if f"{name}/ids" in archive
            }
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"{file} cannot be read, it is damaged: {error}") from error


def _from_predictions(folder: Path, measures: Sequence[str], sets: Sequence[str]) -> dict[str, SentenceStatistics]:
    # Here, for it needs torch.
    from attnframe.data.tokenizer import tokenizer_from_state

    file = folder / "predictions.tsv"
    try:
        state = json.loads((folder / "tokenizers.json").read_text(encoding="utf-8"))["target"]
        tokenizer = tokenizer_from_state(state)
        with file.open(encoding="utf-8", newline="") as opened:
            rows = list(csv.DictReader(opened, delimiter="\t", quoting=csv.QUOTE_NONE))
        found = {}
        for name in sets:
            if own := [row for row in rows if row["set"] == name]:
                references = [[row["reference"], *json.loads(row.get("references") or "[]")] for row in own]
                hypotheses = [row["hypothesis"] for row in own]
                counts = text_counts(hypotheses, references, lowercase=tokenizer.lowercase, measures=measures)
                if "exact_match" in measures:
                    counts["exact_match"] = exact_counts(
                        [
                            any(hypothesis == tokenizer.normalize(text) for text in texts)
                            for hypothesis, texts in zip(hypotheses, references, strict=True)
                        ]
                    )
                found[name] = SentenceStatistics(tuple(row["id"] for row in own), counts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read, it is missing or damaged: {error!r}") from error
    return found
