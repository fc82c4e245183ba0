"""The report of a run: what is in its folder, as the page to look around in. Works for runs that are not finished."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from attnframe.errors import UserError
from attnframe.patterns import missing_sentences
from attnframe.patterns.page import PagePattern, PageRun, PageSentence, page_html
from attnframe.runs.ablation_tables import head_importance, read_ablation
from attnframe.runs.endings import ending_of
from attnframe.runs.folder import RunFolder, write_whole
from attnframe.runs.histories import Head, head_log, validations
from attnframe.runs.loading import read_manifest
from attnframe.runs.report_tables import best_step, report_tables
from attnframe.runs.snapshots import Snapshot, read_snapshot, snapshot_files

# The others never change, or say much the same as one of these.
_TRACED = ("loss", "token_accuracy", "exact_match", "bleu", "chrf", "aer", "aer_norms", "aer_mean_heads")


@dataclass
class Report:
    """What the page shows of a run, and in sentences what could not be shown."""

    run: PageRun
    problems: list[str] = field(default_factory=list)


def write_report(folder: RunFolder, *, ending: str | None = None) -> Path:
    """Write `report.html` into the run's folder, in full or not at all, and return where it is.

    `ending` is the marker that the run is about to get, where it has none yet. Raises `UserError` where there is no
    run.
    """
    write_whole(folder.report, page_html([read_report(folder, ending=ending).run]))
    return folder.report


def read_report(folder: RunFolder, *, ending: str | None = None) -> Report:
    """What is in the folder, as far as it can be read. Raises `UserError` where there is no run."""
    manifest = read_manifest(folder, "")
    _check_settings(folder, manifest["settings"])
    results, problems = _results(folder)
    history = validations(folder, problems)
    by_step = _snapshots(folder, problems)
    shown = sorted(by_step)
    if not by_step:
        problems.append("no patterns were recorded" + _why_none(manifest["settings"], history))
    problems += missing_sentences(_missing(by_step[shown[-1]] if shown else []))
    heads = head_log(folder, problems)
    measured = [*history.values(), *(values for columns in heads.values() for values in columns.values())]
    steps = sorted({*shown, *(step for values in measured for step in values)})
    ablation = read_ablation(folder, problems)
    best = best_step(results, history)
    run = PageRun(
        name=str(manifest["settings"]["name"]),
        subtitle=_subtitle(folder, manifest, best, [ending_of(folder, ending), *problems]),
        steps=steps,
        pattern_steps=shown,
        sentences=_sentences(shown, by_step),
        traces={
            name: [values.get(step) for step in steps]
            for name, values in history.items()
            if name.removeprefix("val/") in _TRACED
        },
        head_traces={
            head: {name: [values.get(step) for step in steps] for name, values in columns.items()}
            for head, columns in heads.items()
        },
        tables=report_tables(results, heads, ablation, best),
        importance=head_importance(ablation) or None,
        opening=_aligned_head(results, heads, best),
    )
    return Report(run, problems)


def _aligned_head(
    results: Mapping[str, Any], heads: Mapping[Head, Mapping[str, Mapping[int, float]]], best: int | None
) -> Head | None:
    """The head that the AER is read from; before there are results, that with the lowest one at the best state."""
    layer, head = results.get("test/aer/layer"), results.get("test/aer/head")
    if isinstance(layer, int) and isinstance(head, int):
        return "cross", layer, head
    if best is None:
        return None
    aers = {place: columns.get("aer", {}).get(best, math.nan) for place, columns in heads.items()}
    return min((place for place in aers if not math.isnan(aers[place])), key=lambda place: aers[place], default=None)


def _results(folder: RunFolder) -> tuple[dict[str, Any], list[str]]:
    file = folder.path / "results.json"
    try:
        results = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}, []
    except (OSError, ValueError):
        results = None
    return (results, []) if isinstance(results, dict) else ({}, [f"{file.name} is damaged"])


def _snapshots(folder: RunFolder, problems: list[str]) -> dict[int, list[Snapshot]]:
    """The snapshots of every step that has one of each sentence; what is left out is said in `problems`."""
    by_step: dict[int, dict[int, Snapshot]] = {}
    for step, files in snapshot_files(folder).items():
        by_step[step] = {}
        for sentence, file in files.items():
            try:
                by_step[step][sentence] = read_snapshot(file)
            except UserError as error:
                problems.append(f"step {step} is left out: {str(error).replace(f'{folder.path}/', '')}")
    by_step = {step: snapshots for step, snapshots in by_step.items() if snapshots}
    if not by_step:
        return {}
    # The step that is being written, or was when the run was killed, has fewer.
    whole = max(by_step.values(), key=_extent)
    return {
        step: [snapshots[sentence] for sentence in sorted(snapshots)]
        for step, snapshots in by_step.items()
        if snapshots.keys() == whole.keys() and all(_alike(snapshots[key], whole[key]) for key in whole)
    }


def _extent(snapshots: Mapping[int, Snapshot]) -> tuple[int, int]:
    """How many sentences there are, and how many patterns of them."""
    return len(snapshots), sum(len(snapshot.patterns) for snapshot in snapshots.values())


def _alike(one: Snapshot, other: Snapshot) -> bool:
    """Whether two snapshots are of the same sentence and, where both have patterns, of the same heads."""
    mine, others = one.patterns, other.patterns
    return (
        mine.labels == others.labels
        and {*mine, *mine.missing} == {*others, *others.missing}
        and all(mine[place].weights.shape == others[place].weights.shape for place in mine.keys() & others.keys())
    )


def _missing(snapshots: Sequence[Snapshot]) -> dict[tuple[str, int], str]:
    """Why there is no pattern of a (site, layer), of one of the sentences at least."""
    return {place: reason for snapshot in snapshots for place, reason in snapshot.patterns.missing.items()}


def _sentences(steps: Sequence[int], by_step: Mapping[int, Sequence[Snapshot]]) -> list[PageSentence]:
    if not by_step:
        return []
    sentences: dict[str, PageSentence] = {}
    for over_time in zip(*(by_step[step] for step in steps), strict=True):
        last = over_time[-1]
        places = sorted({place for snapshot in over_time for place in snapshot.patterns})
        patterns = {place: _over_time(over_time, place) for place in places}
        # The page knows a sentence by its source.
        sentences.setdefault(
            last.patterns.source,
            PageSentence(
                source=last.patterns.source,
                target=last.patterns.target,
                labels=last.patterns.labels,
                patterns=patterns,
                alignment=last.alignment,
            ),
        )
    return list(sentences.values())


def _over_time(snapshots: Sequence[Snapshot], place: tuple[str, int]) -> PagePattern:
    """At every step; what a run that went on with other code has at some steps only is NaN at the others."""
    patterns = [snapshot.patterns.get(place) for snapshot in snapshots]
    last = [pattern for pattern in patterns if pattern is not None][-1]
    nothing = np.full(last.weights.shape, math.nan, dtype=np.float32)
    weights = [nothing if pattern is None else pattern.weights.numpy() for pattern in patterns]
    norms = [None if pattern is None else pattern.contributions for pattern in patterns]
    if all(contributions is None for contributions in norms):
        return PagePattern(last.kind, np.stack(weights))
    contributions = [nothing if found is None else found.numpy() for found in norms]
    return PagePattern(last.kind, np.stack(weights), np.stack(contributions))


def _check_settings(folder: RunFolder, settings: Any) -> None:
    """Refuse settings without what a report says of them."""
    for path in ("name", "seed", "attention.name", "data.name", "callbacks.patterns.sentences"):
        node = settings
        for key in path.split("."):
            if not isinstance(node, Mapping) or key not in node:
                raise UserError(f"{folder.manifest} is damaged: its settings have no {path}")
            node = node[key]


def _subtitle(folder: RunFolder, manifest: Mapping[str, Any], best: int | None, remarks: Sequence[str]) -> str:
    settings = manifest["settings"]
    parts = [
        f"variant {settings['attention']['name']}",
        f"data {settings['data']['name']}",
        f"seed {settings['seed']}",
        f"folder {folder.path.absolute().name}",
    ]
    if best is not None:
        parts.append(f"best state: step {best}")
    return ". ".join([", ".join(parts), *filter(None, remarks)])


def _why_none(settings: Mapping[str, Any], history: Mapping[str, Any]) -> str:
    if not settings["callbacks"]["patterns"]["sentences"]:
        return " (callbacks.patterns.sentences=0)"
    return "" if history else ": the run has not come to a validation"
