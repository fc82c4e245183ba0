"""Run folders as a training would leave them, with scores of our choice: for whoever reads runs and needs no model."""

from __future__ import annotations

import copy
import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from attnframe.runs.sentence_statistics import SentenceStatistics, exact_counts, write_sentence_statistics

SETTINGS: dict[str, Any] = {
    "name": "made",
    "seed": 1,
    "data": {"name": "grammar", "train_size": 400, "max_tokens": 3072, "seed": 0},
    "model": {"kind": "seq2seq", "d_model": 32, "num_heads": 2, "d_ff": 64, "num_layers": 2},
    "attention": {"name": "multi_head"},
    "encoder_self": None,
    "decoder_self": None,
    "cross": None,
    "layers": {"encoder_self": None, "decoder_self": None, "cross": None},
    "backend": {"name": "auto"},
    "optimizer": {"name": "adamw", "lr": 0.002},
    "scheduler": {"name": "warmup_cosine", "warmup_steps": 100},
    "trainer": {"max_steps": 100, "max_epochs": None, "max_time": None, "enable_progress_bar": True},
    "decoding": {"name": "greedy"},
    "logger": {},
    "callbacks": {"early_stopping": {"patience": None}, "patterns": {"sentences": 3}},
}

MANIFEST: dict[str, Any] = {
    "versions": {"attnframe": "0.1.0", "torch": "2.13.0"},
    "platform": "Linux",
    "device": "cpu",
    "precision": "32-true",
    "threads": 1,
    "data": {"name": "grammar", "hash": "d" * 64, "sizes": {}},
    "parameters": 66816,
    "plugins": [],
}

CURVE = ((0, 3.0), (50, 2.0), (100, 1.0))


def make_run(
    folder: Path,
    *,
    seed: int = 1,
    variant: str = "multi_head",
    changes: Mapping[str, Any] | None = None,
    manifest: Mapping[str, Any] | None = None,
    results: Mapping[str, Any] | None = None,
    exact: Sequence[bool] | Mapping[str, Sequence[bool]] | None = None,
    curve: Sequence[tuple[int, float]] = CURVE,
    marker: str = "DONE",
) -> Path:
    """Write the folder of a run and return it.

    `changes` are settings by their dotted keys, None among them; `manifest` and `results` are laid over the usual ones.
    `exact` says of each test sentence, of one set or of several, whether its translation is right; it decides
    exact_match and goes into the sentence statistics. `curve` has (step, val/loss), a step to the second.
    """
    folder.mkdir(parents=True)
    settings = copy.deepcopy(SETTINGS) | {"seed": seed, "attention": {"name": variant}, "name": f"run-{seed}"}
    for key, value in (changes or {}).items():
        *parents, last = key.split(".")
        place = settings
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = value
    written = {"name": settings["name"], "seed": seed, "settings": settings, **MANIFEST, **(manifest or {})}
    (folder / "manifest.json").write_text(json.dumps(written), encoding="utf-8")
    _write_curve(folder / "metrics.csv", curve)
    if marker:
        (folder / marker).touch()
    if marker != "DONE":
        return folder
    sets = exact if isinstance(exact, Mapping) else {"test": [True, False, False, True] if exact is None else exact}
    found: dict[str, Any] = {}
    for name, hits in sets.items():
        prefix = "test/" if name == "test" else f"test/{name}/"
        found |= {f"{prefix}exact_match": sum(hits) / len(hits), f"{prefix}sentences": len(hits)}
    found |= {
        "test/bleu": 50.0,
        "test/loss": 0.5,
        "train/steps": 100,
        "train/seconds": 10.0,
        "train/target_tokens": 20000,
        "train/tokens_per_second": 2000.0,
        "train/flops_per_token": 3000.0,
        "train/peak_memory_bytes": 300 * 1024**2,
        "train/steps_to_95": None,
        "parameters": 66816,
        "seed": seed,
        "signature/bleu": "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0",
        **(results or {}),
    }
    (folder / "results.json").write_text(json.dumps(found), encoding="utf-8")
    write_sentence_statistics(
        folder,
        {
            name: SentenceStatistics(
                tuple(f"{name}-{index:05d}" for index in range(len(hits))), {"exact_match": exact_counts(list(hits))}
            )
            for name, hits in sets.items()
        },
    )
    return folder


def draw_hits(random: np.random.Generator, mean: float, sentences: int) -> list[bool]:
    """Sentences of which each is right with a chance of `mean`."""
    return (random.random(sentences) < mean).tolist()


def _write_curve(file: Path, curve: Sequence[tuple[int, float]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["step", "epoch", "seconds", "train/loss", "val/loss"])
        writer.writerows([step, 0, float(step), "", loss] for step, loss in curve)
