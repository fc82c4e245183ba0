"""Heads of an explanation as a figure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnframe.cli.explanation_text import CONTRIBUTION, SITES
from attnframe.errors import UserError
from attnframe.patterns import missing_sentences
from attnframe.patterns.kinds import KIND_MEANINGS
from attnframe.patterns.pictures.figure import Panel, save_figure

if TYPE_CHECKING:
    from torch import Tensor

    from attnframe.runs.explained import AttentionExplanation, Explanation


def draw(
    explanation: Explanation,
    site: str,
    layers: Sequence[int],
    heads: Sequence[int],
    path: Path,
    *,
    contributions: bool,
    noted: bool = True,
) -> None:
    """Draw `heads` (those that a layer has) of `layers` of a site, all from 0; one at least has a pattern.

    With `noted` sentences below say what is drawn. Layers without a pattern are named on standard error. Raises
    `UserError`.
    """
    parts = [explanation[site, layer] for layer in layers]
    rows = []
    for part in parts:
        if (values := _values(part, contributions)) is not None:
            shown = [head for head in heads if head < len(part.heads)]
            rows.append([_panel(part.layer + 1, head + 1, values[head]) for head in shown])
    rows = [row for row in rows if row]
    notes = [f"{site}: {SITES[site][0]}. Rows attend to columns."]
    if contributions:
        notes.append(f"{CONTRIBUTION} is the length of what key j adds to ΔE of query i through the head.")
    else:
        notes += _kinds(parts)
    missing = save_figure(
        path,
        rows,
        query_labels=parts[0].query_labels,
        key_labels=parts[0].key_labels,
        scale=CONTRIBUTION if contributions else "weight",
        largest=max(panel.values.max().item() for row in rows for panel in row) if contributions else None,
        notes=notes if noted else (),
    )
    for sentence in missing_sentences({(site, p.layer): p.no_pattern_because for p in parts if p.weights is None}):
        print(sentence, file=sys.stderr)
    if missing:
        print(
            f"no font here has {' '.join(missing)}: boxes stand for them; in an .svg the viewer chooses the font",
            file=sys.stderr,
        )


def _panel(layer: int, head: int, values: Tensor) -> Panel:
    """`layer` and `head` count from 1."""
    return Panel(f"layer {layer}, head {head}", f"L{layer} H{head}", values)


def _values(part: AttentionExplanation, contributions: bool) -> Tensor | None:
    """What is drawn of a layer; None where it has no pattern."""
    if part.weights is None or not contributions:
        return part.weights
    if part.contributions is None:
        raise UserError(f"--contributions: {part.site} layer {part.layer + 1} has none: {part.no_heads_because}")
    return part.contributions


def _kinds(parts: Sequence[AttentionExplanation]) -> list[str]:
    """What kind of pattern the panels show, by layer where that differs."""
    kinds = list(dict.fromkeys(part.kind for part in parts if part.kind is not None))
    if len(kinds) == 1:
        return [f"The weights are of kind {KIND_MEANINGS[kinds[0]]}."]
    return [
        f"The weights of layer {', '.join(str(part.layer + 1) for part in parts if part.kind is kind)} are of kind "
        f"{KIND_MEANINGS[kind]}."
        for kind in kinds
    ]
