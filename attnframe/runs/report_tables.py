"""The tables of a run's report, out of its results, its heads and what ablating them does."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnframe.patterns.page import PageTable
from attnframe.runs.folder import RunFolder
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
_MOST_ABLATED = 12

_AER = (
    "AER is the alignment error rate (0 is best) of one head of the cross-attention, chosen on validation: by its "
    "weights, and as aer_norms by its contributions. aer_diagonal is that of the diagonal, aer_perfect the best that "
    "one link for each target word can have."
)


@dataclass(frozen=True)
class AblatedPart:
    """A site, a layer of it or a head, counted from 0, and what the loss rises by without it (nats a target token)."""

    what: str
    site: str
    layer: int | None
    head: int | None
    mode: str
    loss_change: float


def best_step(results: Mapping[str, Any], history: Mapping[str, Mapping[int, float]]) -> int | None:
    """The step with the lowest validation loss."""
    if isinstance(step := results.get("train/best_step"), int):
        return step
    losses = {step: loss for step, loss in history.get("val/loss", {}).items() if not math.isnan(loss)}
    return min(losses, key=lambda step: losses[step], default=None)


def ablation_of(folder: RunFolder, problems: list[str]) -> list[AblatedPart]:
    """The rows of ablation/ablation.csv, none where there is no such file; a damaged one is said in `problems`."""
    file = folder.path / "ablation" / "ablation.csv"
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            return [_ablated_part(row) for row in csv.DictReader(opened)]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        problems.append("ablation/ablation.csv is damaged")
        return []


def head_importance(ablation: Sequence[AblatedPart]) -> dict[Head, float]:
    """By head what the loss rises by (nats a target token) when it is zeroed."""
    return {
        (part.site, part.layer, part.head): part.loss_change
        for part in ablation
        if part.mode == "zero" and part.layer is not None and part.head is not None
    }


def report_tables(
    results: Mapping[str, Any],
    heads: Mapping[Head, Mapping[str, Mapping[int, float]]],
    ablation: Sequence[AblatedPart],
    best: int | None,
) -> list[PageTable]:
    """Those that there is anything to put into. On the page layers and heads count from 1."""
    tables = [_scores(results), _phenomena(results), _heads(heads, best), _ablation(ablation)]
    return [table for table in tables if table is not None]


def _ablated_part(row: Mapping[str, str]) -> AblatedPart:
    layer, head = (int(row[name]) if row[name] else None for name in ("layer", "head"))
    return AblatedPart(row["what"], row["site"], layer, head, row["mode"], float(row["loss_change"]))


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
        caption = f"{caption} {_AER}{_chosen(results)}"
    return PageTable("Scores", ["set", *columns], rows, caption)


def _chosen(results: Mapping[str, Any]) -> str:
    """Which heads the AERs are read from."""
    told = []
    for name in ("aer", "aer_norms"):
        layer, head, reading = (results.get(f"test/{name}/{key}") for key in ("layer", "head", "reading"))
        if isinstance(layer, int) and isinstance(head, int):
            told.append(f"{name} is that of layer {layer + 1}, head {head + 1} ({reading})")
    return f" Here {', '.join(told)}." if told else ""


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
    caption = (
        f"At the best state, step {best}. Entropy in nats, effective support and distance in keys; value_rank is the "
        "effective rank of a head's map from embeddings to what it adds to them; aer and aer_norms are those of the "
        "head's better reading, on the validation set."
    )
    return PageTable("Heads", ["site", "layer", "head", *names], rows, caption)


def _ablation(ablation: Sequence[AblatedPart]) -> PageTable | None:
    if not ablation:
        return None
    ranked = sorted(ablation, key=lambda part: (math.isnan(part.loss_change), -part.loss_change))
    rows = [
        [
            part.what,
            part.site,
            None if part.layer is None else part.layer + 1,
            None if part.head is None else part.head + 1,
            part.mode,
            part.loss_change,
        ]
        for part in ranked[:_MOST_ABLATED]
    ]
    caption = (
        "What the loss rises by (nats per target token) when a part gives nothing (zero) or attends to every key alike "
        f"(uniform): the {len(rows)} of {len(ablation)} parts that matter most; ablation/ablation.csv has them all."
    )
    return PageTable("Ablation", ["what", "site", "layer", "head", "mode", "loss_change"], rows, caption)


def _cell(value: Any) -> str | float | int | None:
    return value if isinstance(value, str | float | int) else None
