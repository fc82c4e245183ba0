"""The patterns of a sentence at a step as pictures, one for each site."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from PIL import Image
from torch import Tensor

from attnframe.attention import PatternKind
from attnframe.patterns.pictures.drawing import draw_patterns
from attnframe.runs.folder import RunFolder
from attnframe.runs.histories import validations
from attnframe.runs.snapshots import Snapshot, read_snapshot, snapshot_files

_log = logging.getLogger(__name__)


def draw_last_patterns(folder: RunFolder) -> None:
    """Draw what the run has recorded last, next to it: `sentence_0_cross.png` and so on. Raises `UserError`."""
    files = snapshot_files(folder)
    if not files:
        return
    step = max(files)
    history = validations(folder)
    scores = {name: values[step] for name, values in history.items() if step in values}
    for sentence, file in files[step].items():
        for site, (picture, _) in draw_snapshot(read_snapshot(file), step, scores).items():
            picture.save(file.with_name(f"sentence_{sentence}_{site}.png"))


def draw_snapshot(snapshot: Snapshot, step: int, scores: Mapping[str, float]) -> dict[str, tuple[Image.Image, str]]:
    """By site a picture and what is to be said of it; `scores` are those of the step (`val/loss`, `val/aer`).

    A site that cannot be drawn is left out, and the log says why; so is one without patterns, of which the run's log
    tells once.
    """
    patterns = snapshot.patterns
    drawn = {}
    for site, (query_labels, key_labels) in patterns.labels.items():
        places = [place for place in patterns if place[0] == site]
        if not places:
            continue
        subtitle = _subtitle(site, step, scores, sorted({patterns[place].kind for place in places}))
        try:
            picture = draw_patterns(
                stack_layers([patterns[place].weights for place in places]),
                query_labels=query_labels,
                key_labels=key_labels,
                layers=[layer for _, layer in places],
                title=f"{site}: {patterns.source}",
                subtitle=subtitle,
                alignment=snapshot.alignment if site == "cross" else None,
            )
        except ValueError as error:
            _log.warning("step %d: the patterns at %s were not drawn: %s", step, site, error)
            continue
        drawn[site] = picture, f"{patterns.source} | {subtitle}"
    return drawn


def stack_layers(layers: Sequence[Tensor]) -> Tensor:
    """[layers, heads, query, key] of one sentence; a layer with fewer heads than another is filled up with zeros."""
    heads = max(weights.shape[0] for weights in layers)
    return torch.stack(
        [torch.nn.functional.pad(weights, (0, 0, 0, 0, 0, heads - weights.shape[0])) for weights in layers]
    )


def _subtitle(site: str, step: int, scores: Mapping[str, float], kinds: Sequence[PatternKind]) -> str:
    parts = ["each row says its word"] if site == "cross" else []
    parts.append(f"step {step}")
    if "val/loss" in scores:
        parts.append(f"val loss {scores['val/loss']:.3f}")
    if site == "cross" and "val/aer" in scores:
        parts.append(f"AER {scores['val/aer']:.3f}")
    if kinds != [PatternKind.PROBABILITY]:
        parts.append("weights: " + ", ".join(kinds))
    return ", ".join(parts)
