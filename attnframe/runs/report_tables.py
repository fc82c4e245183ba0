"""The tables of a run's report, out of its results and its heads; those of its ablation come after them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from attnframe.patterns.page import PageTable
from attnframe.runs.ablation_tables import Ablation, ablation_tables
from attnframe.runs.histories import Head

_MEASURES = (
    "exact_match",
    "bleu",
    "chrf",
    "loss",
    "aer",
    "aer_norms",
    "aer_mean_heads",
    "aer_diagonal",
    "aer_perfect",
)
_OF_PHENOMENA = ("exact_match", "aer", "aer_norms", "aer_diagonal", "aer_perfect")

_AERS = {
    "aer": "AER is the alignment error rate (0 is best) of one head of the cross-attention, chosen on validation by "
    "its weights.",
    "aer_norms": "aer_norms is that of the head chosen by its contributions, read from these.",
    "aer_mean_heads": "aer_mean_heads is that of the mean of all heads of one layer.",
    "aer_diagonal": "aer_diagonal is that of the diagonal.",
    "aer_perfect": "aer_perfect is the best that one link for each target word can have.",
}
_READINGS = {
    "predicts": "predicts: a word is aligned by the decoder step that predicts it",
    "next_step": "next_step: a word is aligned by the decoder step that reads it, one later",
}
_HEAD_COLUMNS = {
    ("entropy",): "entropy in nats",
    ("effective_support",): "effective_support in keys",
    ("mean_distance",): "mean_distance in keys from the diagonal",
    ("diagonality",): "diagonality is 1 on the diagonal and 0 as far from it as uniform attention",
    ("entropy", "effective_support", "largest_weight"): "{} only of patterns that are probabilities",
    ("value_rank",): "value_rank is the effective rank of a head's map from embeddings to what it adds to them",
    ("aer", "aer_norms"): "{} by the head's better reading, on the validation set",
}


def best_step(results: Mapping[str, Any], history: Mapping[str, Mapping[int, float]]) -> int | None:
    """The step with the lowest validation loss."""
    if isinstance(step := results.get("train/best_step"), int):
        return step
    losses = {step: loss for step, loss in history.get("val/loss", {}).items() if not math.isnan(loss)}
    return min(losses, key=lambda step: losses[step], default=None)


def report_tables(
    results: Mapping[str, Any],
    heads: Mapping[Head, Mapping[str, Mapping[int, float]]],
    ablation: Ablation | None,
    best: int | None,
) -> list[PageTable]:
    """Those that there is anything to put into. On the page layers and heads count from 1."""
    tables = [_scores(results), _phenomena(results), _heads(heads, best)]
    return [*(table for table in tables if table is not None), *ablation_tables(ablation)]


def _scores(results: Mapping[str, Any]) -> PageTable | None:
    sets = [key.removesuffix("exact_match") for key in results if re.fullmatch(r"test/([^/]+/)?exact_match", key)]
    columns = [name for name in _MEASURES if any(f"{prefix}{name}" in results for prefix in sets)]
    if not sets:
        return None
    rows = [
        [
            prefix.removeprefix("test/").strip("/") or "test",
            *(_cell(results.get(f"{prefix}{name}")) for name in columns),
        ]
        for prefix in sets
    ]
    caption = "Of the best state, on every test set; loss in nats per target token."
    if "aer" in columns:
        explained = [sentence for name, sentence in _AERS.items() if name in columns]
        caption = f"{' '.join([caption, *explained])}{_chosen(results)}"
    return PageTable("Scores", ["set", *columns], rows, caption)


def _chosen(results: Mapping[str, Any]) -> str:
    """Which heads the AERs are read from, and what their readings mean."""
    told, readings = [], []
    for name in ("aer", "aer_norms", "aer_mean_heads"):
        layer, head, reading = (results.get(f"test/{name}/{key}") for key in ("layer", "head", "reading"))
        if isinstance(layer, int):
            which = f"layer {layer + 1}, head {head + 1}" if isinstance(head, int) else f"layer {layer + 1}"
            told.append(f"{name} is that of {which} ({reading})")
            readings.append(reading)
    if not told:
        return ""
    meanings = [meaning for name, meaning in _READINGS.items() if name in readings]
    return f" Here {', '.join(told)}; {'; '.join(meanings)}."


def _phenomena(results: Mapping[str, Any]) -> PageTable | None:
    start = "test/phenomenon/"
    tags = dict.fromkeys(key.removeprefix(start).rpartition("/")[0] for key in results if key.startswith(start))
    columns = [name for name in _OF_PHENOMENA if any(f"{start}{tag}/{name}" in results for tag in tags)]
    if not columns:
        return None
    rows = [[tag, *(_cell(results.get(f"{start}{tag}/{name}")) for name in columns)] for tag in tags]
    return PageTable("Phenomena", ["phenomenon", *columns], rows, "Of the set test: the sentences that have it.")


def _heads(heads: Mapping[Head, Mapping[str, Mapping[int, float]]], best: int | None) -> PageTable | None:
    names = list(dict.fromkeys(name for columns in heads.values() for name in columns))
    if best is None or not any(best in values for columns in heads.values() for values in columns.values()):
        return None
    rows = [
        [site, layer + 1, head + 1, *(_cell(columns.get(name, {}).get(best)) for name in names)]
        for (site, layer, head), columns in heads.items()
    ]
    explained = []
    for columns_meant, words in _HEAD_COLUMNS.items():
        if there := [name for name in columns_meant if name in names]:
            explained.append(words.format(", ".join(there)))
    return PageTable(
        "Heads",
        ["site", "layer", "head", *names],
        rows,
        f"{'; '.join([f'At the best state, step {best}', *explained])}.",
    )


def _cell(value: Any) -> str | float | int | None:
    """What results and tables hold; NaN says that there is no number."""
    if isinstance(value, float) and math.isnan(value):
        return None
    return value if isinstance(value, str | float | int) else None
