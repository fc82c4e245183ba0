"""What an ablation study leaves in its folder: ablation.csv, ablation.json and ablation.png."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from attnframe.model import SITES
from attnframe.model.parts import Part
from attnframe.patterns.pictures.importance import SiteChanges, draw_importance
from attnframe.runs.folder import RunFolder
from attnframe.training.ablation import MEASURES, Ablation, AblationStudy

COLUMNS = (
    *("what", "site", "layer", "head", "mode"),
    *(column for measure in MEASURES for column in (measure, f"{measure}_change")),
)
TITLES = {"zero": "zeroed", "uniform": "uniform over the keys"}
"""What is done to a part, by mode, in words."""


def write_study(study: AblationStudy, folder: Path) -> None:
    """Write the three files into `folder`.

    ablation.csv has a row for each ablation in their order, with layers and heads from 0, empty where the row is that
    of all of them, and the AER empty where there are no gold links.
    """
    with (folder / "ablation.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(_row(ablation) for ablation in study.ablations)
    RunFolder(folder).write_json("ablation.json", {**study.description, "untouched": study.untouched})
    told = study.description
    image = draw_importance(
        {TITLES[mode]: _sites(study.ablations, mode) for mode in told["modes"]},
        title="What the loss rises by without each head",
        subtitle=f"nats per target token, from {study.untouched['loss']:.3f}; {told['sentences']} sentences of "
        f"{told['set']}, step {told['step']}",
    )
    image.save(folder / "ablation.png")


def _row(ablation: Ablation) -> list[object]:
    part = ablation.part
    values: list[object] = [part.what, part.site, part.layer, part.head, ablation.mode]
    for measure in MEASURES:
        values += [ablation.scores.get(measure), ablation.changes.get(measure)]
    return values


def _sites(ablations: Sequence[Ablation], mode: str) -> list[SiteChanges]:
    """What the loss changes by in one mode, for each site in the order of the model."""
    rises = {ablation.part: ablation.changes["loss"] for ablation in ablations if ablation.mode == mode}
    found = []
    for site in SITES:
        heads, layers = {}, {}
        for part, rise in rises.items():
            if part.site == site and part.layer is not None:
                if part.head is None:
                    layers[part.layer] = rise
                else:
                    heads[part.layer, part.head] = rise
        if layers:
            found.append(SiteChanges(site, heads, layers, rises.get(Part(site))))
    return found
