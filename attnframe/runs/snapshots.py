"""The patterns that a run leaves of a sentence at a step: one `.npz` file, written and read."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from attnframe.attention import PatternKind
from attnframe.data.schema import Alignment, Link
from attnframe.errors import UserError
from attnframe.patterns import Pattern, Patterns
from attnframe.runs.folder import RunFolder
from attnframe.runs.sentence_patterns import SentencePatterns

_CONTRIBUTIONS, _KIND, _MISSING = "contributions", "kind", "missing"


@dataclass(frozen=True)
class Snapshot:
    """The patterns of one sentence and its translation, with their gold links where they have some."""

    patterns: SentencePatterns
    alignment: Alignment | None


def snapshot_file(folder: RunFolder, step: int, sentence: int) -> Path:
    """Where the patterns of a sentence, counted from 0, at a step are."""
    return folder.patterns / f"step_{step:06d}" / f"sentence_{sentence}.npz"


def snapshot_files(folder: RunFolder) -> dict[int, dict[int, Path]]:
    """The files that are there by step, then by sentence, both rising."""
    files: dict[int, dict[int, Path]] = {}
    for file in folder.patterns.glob("step_*/sentence_*.npz"):
        step, sentence = file.parent.name.removeprefix("step_"), file.stem.removeprefix("sentence_")
        if step.isdecimal() and sentence.isdecimal():
            files.setdefault(int(step), {})[int(sentence)] = file
    return {step: dict(sorted(files[step].items())) for step in sorted(files)}


def write_snapshot(file: Path, snapshot: Snapshot) -> None:
    """Write `file`, in full or not at all.

    `cross/layer_0` holds the weights of a site and layer, [heads, query, key], `cross/layer_0/kind` their kind and
    `cross/layer_0/contributions` the contributions where there are some. In their place `cross/layer_0/missing` says
    why there is no pattern. `cross/query_labels` and `cross/key_labels` are the words of rows and columns, `source` and
    `target` the sentences, `gold/sure` and `gold/possible` the gold links where there are some, each a row (source
    word, target word). Everything is counted from 0.
    """
    patterns, gold = snapshot.patterns, snapshot.alignment
    arrays = {"source": np.array(patterns.source), "target": np.array(patterns.target)}
    for (site, layer), pattern in patterns.items():
        name = f"{site}/layer_{layer}"
        arrays[name] = pattern.weights.float().cpu().numpy()
        arrays[f"{name}/{_KIND}"] = np.array(str(pattern.kind))
        if pattern.contributions is not None:
            arrays[f"{name}/{_CONTRIBUTIONS}"] = pattern.contributions.float().cpu().numpy()
    for (site, layer), reason in patterns.missing.items():
        arrays[f"{site}/layer_{layer}/{_MISSING}"] = np.array(reason)
    for site, (queries, keys) in patterns.labels.items():
        arrays[f"{site}/query_labels"] = np.array(queries)
        arrays[f"{site}/key_labels"] = np.array(keys)
    if gold is not None:
        arrays["gold/sure"], arrays["gold/possible"] = _link_rows(gold.sure), _link_rows(gold.possible)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    with partial.open("wb") as opened:
        np.savez_compressed(opened, **arrays)  # type: ignore[arg-type]
    partial.replace(file)


def read_snapshot(file: Path) -> Snapshot:
    """What `write_snapshot` wrote, an older version of it too, which had no contributions, sentences or gold links.

    Raises `UserError` for a file that is damaged.
    """
    try:
        with file.open("rb") as opened, np.load(opened) as archive:
            arrays = {name: archive[name] for name in archive.files}
        labels = {
            site: (arrays[f"{site}/query_labels"].tolist(), arrays[f"{site}/key_labels"].tolist())
            for site in sorted({name.partition("/")[0] for name in arrays if name.endswith("/query_labels")})
        }
        patterns = Patterns()
        for place, pattern in _patterns(arrays):
            queries, keys = labels[place[0]]
            for maps in (pattern.weights, pattern.contributions):
                if maps is not None and (maps.dim() != 4 or maps.shape[2:] != (len(queries), len(keys))):
                    raise ValueError(f"{place[0]} of shape {tuple(maps.shape)} does not fit its labels")
            patterns.add(place, pattern)
        for place, reason in _missing(arrays):
            patterns.leave_out(place, reason)
        source, target = (str(arrays[name]) if name in arrays else "" for name in ("source", "target"))
        if "source" not in arrays:
            source, target = (" ".join(words[:-1]) for words in reversed(labels["cross"]))
        alignment = None
        if "gold/sure" in arrays:
            alignment = Alignment(_links(arrays["gold/sure"]), _links(arrays["gold/possible"]))
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file} cannot be read, it is damaged: {reason}") from error
    return Snapshot(SentencePatterns(source, target, labels, patterns), alignment)


def _patterns(arrays: dict[str, NDArray[np.generic]]) -> Iterator[tuple[tuple[str, int], Pattern]]:
    for name, weights in arrays.items():
        site, _, layer = name.partition("/layer_")
        if layer.isdecimal():
            kind = PatternKind(str(arrays[f"{name}/{_KIND}"]))
            norms = arrays.get(f"{name}/{_CONTRIBUTIONS}")
            contributions = None if norms is None else torch.from_numpy(norms)[None]
            yield (site, int(layer)), Pattern(torch.from_numpy(weights)[None], kind, contributions)


def _missing(arrays: dict[str, NDArray[np.generic]]) -> Iterator[tuple[tuple[str, int], str]]:
    for name, reason in arrays.items():
        site, _, layer = name.removesuffix(f"/{_MISSING}").partition("/layer_")
        if name.endswith(f"/{_MISSING}") and layer.isdecimal():
            yield (site, int(layer)), str(reason)


def _link_rows(links: frozenset[Link]) -> NDArray[np.int64]:
    return np.array(sorted(links), dtype=np.int64).reshape(-1, 2)


def _links(rows: NDArray[np.generic]) -> frozenset[Link]:
    return frozenset((int(source), int(target)) for source, target in rows.tolist())
