"""Heads of an explanation as a figure."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnframe.cli.explanation_text import SITES
from attnframe.errors import UserError
from attnframe.patterns.figure import Panel, save_figure
from attnframe.patterns.kinds import KIND_MEANINGS

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
) -> None:
    """Draw `heads` (those that a layer has) of `layers` of a site, all from 0. Raises `UserError`."""
    parts = [explanation[site, layer] for layer in layers]
    rows = [
        [
            Panel(f"layer {part.layer + 1}, head {head + 1}", _values(part, contributions)[head])
            for head in heads
            if head < len(part.heads)
        ]
        for part in parts
    ]
    rows = [row for row in rows if row]
    notes = [f"{site}: {SITES[site][0]}. Rows attend to columns."]
    if contributions:
        notes.append("The length of what each key adds to ΔE of each query through the head.")
    notes += _kinds(parts)
    missing = save_figure(
        path,
        rows,
        query_labels=parts[0].query_labels,
        key_labels=parts[0].key_labels,
        scale="‖P·V·W_O‖" if contributions else "weight",
        largest=max(panel.values.max().item() for row in rows for panel in row) if contributions else None,
        notes=notes,
    )
    if missing:
        print(
            f"no font here has {' '.join(missing)}: boxes stand for them; in an .svg the viewer chooses the font",
            file=sys.stderr,
        )


def _values(part: AttentionExplanation, contributions: bool) -> Tensor:
    if not contributions:
        return part.weights
    if part.contributions is None:
        raise UserError(f"--contributions: {part.site} layer {part.layer + 1} has none: {part.no_heads_because}")
    return part.contributions


def _kinds(parts: Sequence[AttentionExplanation]) -> list[str]:
    """What kind of pattern the panels show, by layer where that differs."""
    kinds = list(dict.fromkeys(part.kind for part in parts))
    if len(kinds) == 1:
        return [f"The weights are of kind {KIND_MEANINGS[kinds[0]]}."]
    return [
        f"The weights of layer {', '.join(str(part.layer + 1) for part in parts if part.kind is kind)} are of kind "
        f"{KIND_MEANINGS[kind]}."
        for kind in kinds
    ]
