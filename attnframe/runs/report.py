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
from attnframe.patterns.page import PagePattern, PageRun, PageSentence, page_html
from attnframe.runs.folder import RunFolder, write_whole
from attnframe.runs.histories import head_log, validations
from attnframe.runs.loading import read_manifest
from attnframe.runs.report_tables import ablation_of, best_step, head_importance, report_tables
from attnframe.runs.snapshots import Snapshot, read_snapshot, snapshot_files

# The others never change, or say much the same as one of these.
_TRACED = ("loss", "token_accuracy", "exact_match", "bleu", "chrf", "aer", "aer_norms", "aer_mean_heads")

_ENDINGS = {
    "DONE": "",
    "INTERRUPTED": "the run was stopped before its end",
    "FAILED": "the run failed",
    "": "the run is not finished: it is still going on, or was killed",
}


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
    manifest = read_manifest(folder)
    history = validations(folder)
    results, problems = _results(folder)
    by_step = _snapshots(folder, problems)
    steps = sorted(by_step) or sorted({step for values in history.values() for step in values})
    if not by_step:
        problems.append("no patterns were recorded" + _why_none(manifest["settings"], history))
    heads = head_log(folder)
    ablation = ablation_of(folder, problems)
    best = best_step(results, history)
    run = PageRun(
        name=str(manifest["settings"]["name"]),
        subtitle=_subtitle(folder, manifest, best, steps, [_ending(folder, ending), *problems]),
        steps=steps,
        sentences=_sentences(steps, by_step),
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
    )
    return Report(run, problems)


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
    whole = max(by_step.values(), key=len)
    return {
        step: [snapshots[sentence] for sentence in sorted(snapshots)]
        for step, snapshots in by_step.items()
        if snapshots.keys() == whole.keys() and all(_alike(snapshots[key], whole[key]) for key in whole)
    }


def _alike(one: Snapshot, other: Snapshot) -> bool:
    """Whether two snapshots are of the same sentence and the same heads."""
    shapes = [{place: item.patterns[place].weights.shape for place in item.patterns} for item in (one, other)]
    return one.patterns.labels == other.patterns.labels and shapes[0] == shapes[1]


def _sentences(steps: Sequence[int], by_step: Mapping[int, Sequence[Snapshot]]) -> list[PageSentence]:
    if not by_step:
        return []
    sentences: dict[str, PageSentence] = {}
    for over_time in zip(*(by_step[step] for step in steps), strict=True):
        last = over_time[-1]
        patterns = {place: _over_time(over_time, place) for place in last.patterns}
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
    patterns = [snapshot.patterns[place] for snapshot in snapshots]
    weights = np.stack([pattern.weights.numpy() for pattern in patterns])
    contributions = None
    if any(pattern.contributions is not None for pattern in patterns):
        # A run that went on with a newer version has none at its first steps.
        contributions = np.stack(
            [
                np.full(weights.shape[1:], math.nan) if pattern.contributions is None else pattern.contributions.numpy()
                for pattern in patterns
            ]
        )
    return PagePattern(patterns[-1].kind, weights, contributions)


def _subtitle(
    folder: RunFolder, manifest: Mapping[str, Any], best: int | None, steps: Sequence[int], remarks: Sequence[str]
) -> str:
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


def _ending(folder: RunFolder, ending: str | None) -> str:
    markers = folder.markers
    marker = ending or (markers[0] if markers else "")
    sentence = _ENDINGS[marker]
    error = folder.path / "error.txt"
    if marker == "FAILED" and error.exists():
        lines = error.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        sentence += f": {lines[-1].strip()}" if lines else ""
    return sentence


def _why_none(settings: Mapping[str, Any], history: Mapping[str, Any]) -> str:
    if not settings["callbacks"]["patterns"]["sentences"]:
        return " (callbacks.patterns.sentences=0)"
    return "" if history else ": the run has not come to a validation"
