"""What ablating the parts of a run does, read back from its folder `ablation/`, and as tables of its report."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass

from attnframe.patterns.page import PageTable
from attnframe.runs.folder import RunFolder
from attnframe.runs.histories import Head

_MEASURES = ("loss", "loss_change", "bleu_change", "aer_change")
_MOST_HEADS = 12

_MEANING = (
    "{} What the scores change by when a part gives nothing (zero) or attends to every key alike (uniform); loss in "
    "nats per target token. ablation/ablation.csv has them all."
)


@dataclass(frozen=True)
class AblatedPart:
    """A site, a layer of it or a head, counted from 0, and the scores without it; NaN where there is no such score."""

    site: str
    layer: int | None
    head: int | None
    mode: str
    scores: dict[str, float]


@dataclass(frozen=True)
class Ablation:
    """The ablated parts, and in a sentence on what they were scored; empty where that is not known."""

    parts: Sequence[AblatedPart]
    scored: str


def read_ablation(folder: RunFolder, problems: list[str]) -> Ablation | None:
    """What is in ablation/, None where there is nothing; what is damaged is said in `problems`."""
    file = folder.path / "ablation" / "ablation.csv"
    try:
        with file.open(encoding="utf-8", newline="") as opened:
            parts = [_part(row) for row in csv.DictReader(opened)]
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, csv.Error):
        problems.append("ablation/ablation.csv is damaged")
        return None
    return Ablation(parts, _scored(folder, problems))


def head_importance(ablation: Ablation | None) -> dict[Head, float]:
    """By head what the loss rises by (nats per target token) when it is zeroed."""
    return {
        (part.site, part.layer, part.head): part.scores["loss_change"]
        for part in (ablation.parts if ablation else ())
        if part.mode == "zero" and part.layer is not None and part.head is not None
    }


def ablation_tables(ablation: Ablation | None) -> list[PageTable]:
    """The heads that matter most, and sites and layers; the part whose loss rises by most first."""
    if ablation is None:
        return []
    ranked = sorted(ablation.parts, key=lambda part: -_rise(part))
    of_heads = [part for part in ranked if part.head is not None]
    heads = list(dict.fromkeys((part.site, part.layer, part.head) for part in of_heads))
    most = {head: place for place, head in enumerate(heads[:_MOST_HEADS])}
    shown = [part for part in of_heads if (part.site, part.layer, part.head) in most]
    shown.sort(key=lambda part: most[part.site, part.layer, part.head])
    caption = _MEANING.format(ablation.scored).strip()
    which = f"The {len(most)} of {len(heads)} heads that matter most." if len(most) < len(heads) else "All heads."
    wholes = [part for part in ranked if part.head is None]
    tables = [
        _table("Heads, ablated", ["layer", "head"], shown, f"{which} {caption}"),
        _table("Sites and layers, ablated", ["layer"], wholes, f"Without a layer: all layers of the site. {caption}"),
    ]
    return [table for table in tables if table.rows]


def _table(title: str, counted: Sequence[str], parts: Sequence[AblatedPart], caption: str) -> PageTable:
    names = [name for name in _MEASURES if any(not math.isnan(part.scores[name]) for part in parts)]
    rows = [
        [
            part.site,
            *(None if place is None else place + 1 for place in (part.layer, part.head)[: len(counted)]),
            part.mode,
            *(None if math.isnan(part.scores[name]) else part.scores[name] for name in names),
        ]
        for part in parts
    ]
    return PageTable(title, ["site", *counted, "mode", *names], rows, caption)


def _rise(part: AblatedPart) -> float:
    """What to rank by; a loss that is no number any more ranks above every other."""
    rise = part.scores["loss_change"]
    return rise if math.isfinite(rise) else math.inf


def _part(row: dict[str, str]) -> AblatedPart:
    layer, head = (int(row[name]) if row[name] else None for name in ("layer", "head"))
    scores = {"loss_change": float(row["loss_change"])}
    scores |= {name: float(row.get(name) or "nan") for name in _MEASURES if name not in scores}
    return AblatedPart(row["site"], layer, head, row["mode"], scores)


def _scored(folder: RunFolder, problems: list[str]) -> str:
    file = folder.path / "ablation" / "ablation.json"
    try:
        description = json.loads(file.read_text(encoding="utf-8"))
        return f"On the first {description['sentences']} sentences of the set {description['set']}, greedily decoded."
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, KeyError, TypeError):
        problems.append("ablation/ablation.json is damaged")
        return ""
