"""How long `attnframe compare` takes for many runs: 1,000 of 5,000 predictions, 200 groups of five seeds.

Run from the repository root, with a folder to make the runs in (about 400 MB), which is left there:
OMP_NUM_THREADS=1 python benchmarks/comparing.py FOLDER [RUNS [SENTENCES]]

Reading, tables and curves are what has to be quick; differences, a pair for each group, come after them.
"""

from __future__ import annotations

import copy
import csv
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from attnframe.comparison.comparing import DIFFERENCED
from attnframe.comparison.curves import learning_curves
from attnframe.comparison.differences import group_differences
from attnframe.comparison.fairness import caveats
from attnframe.comparison.grouping import Group, find_group, group_runs
from attnframe.comparison.run_records import read_runs
from attnframe.comparison.tables import MEASURES, all_numbers, class_tables, cost_table, score_tables, test_sets
from attnframe.runs.sentence_statistics import FILE, SentenceStatistics, exact_counts, write_sentence_statistics
from attnframe.training.metric_names import COLUMNS

SEEDS = 5
# So many different statistics are made; runs share them.
POOL = 20
SETS = {"test": 0.4, "unseen_pairs": 0.2, "composition": 0.2, "longer": 0.2}
PHENOMENA = ("adverb", "elision", "negation", "object_clitic", "past", "plural", "pronoun_subject", "contraction")


def main() -> None:
    folder = Path(sys.argv[1])
    runs, sentences = (int(text) for text in (*sys.argv[2:], "1000", "5000")[:2])
    if not folder.exists():
        with timed("making the runs"):
            make_runs(folder, runs, sentences)
    with timed("reading"):
        found = read_runs([folder])
    begun = time.perf_counter()
    with timed("groups, tables, warnings"):
        groups = group_runs(found)
        sets = test_sets(groups)
        pairs = pairs_of(groups)
        score_tables(groups, MEASURES, sets)
        cost_table(groups)
        class_tables(groups, ("exact_match", "aer"), sets)
        all_numbers(groups, MEASURES, sets)
        caveats(groups, pairs)
    with timed("curves"):
        curves = learning_curves(groups)
    print(f"tables and curves in all\t{time.perf_counter() - begun:.1f} s\t{len(groups)} groups, {len(curves)} curves")
    with timed("differences"):
        differences = group_differences(pairs, DIFFERENCED, sets, [])
    print(f"differences\t{len(differences)}")
    print(f"peak memory\t{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def pairs_of(groups: list[Group]) -> list[tuple[Group, Group]]:
    reference = find_group(groups, None)
    return [(group, reference) for group in groups if group is not reference]


@contextmanager
def timed(what: str) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    print(f"{what}\t{time.perf_counter() - begun:.1f} s", flush=True)


def make_runs(folder: Path, runs: int, sentences: int) -> None:
    """Run folders with everything of a real one that is read, and predictions.tsv, which is not."""
    random = np.random.default_rng(1)
    pool = folder / ".pool"
    for number in range(POOL):
        (pool / str(number)).mkdir(parents=True)
        write_sentence_statistics(pool / str(number), statistics(random, sentences))
    predictions = pool / "predictions.tsv"
    predictions.write_text("id\tset\tsource\treference\thypothesis\ttags\n" + "t\ttest\ta\tb\tc\td\n" * sentences)
    for number in range(runs):
        group, seed = divmod(number, SEEDS)
        run = folder / f"{number}_run"
        run.mkdir()
        (run / "manifest.json").write_text(json.dumps(manifest(group, seed)))
        (run / "results.json").write_text(json.dumps(results(random, sentences), indent=2))
        write_metrics(run / "metrics.csv", random)
        os.link(pool / str(number % POOL) / FILE, run / FILE)
        os.link(predictions, run / "predictions.tsv")
        (run / "DONE").touch()


def statistics(random: np.random.Generator, sentences: int) -> dict[str, SentenceStatistics]:
    found = {}
    for name, share in SETS.items():
        count = round(share * sentences)
        lengths = random.integers(4, 12, count)
        there = np.maximum(lengths[:, None] - np.arange(4), 0)
        bleu = np.concatenate([lengths[:, None], lengths[:, None], random.binomial(there, 0.6), there], axis=1)
        characters = np.maximum(5 * lengths[:, None] - np.arange(6), 1)
        chrf = np.stack([characters, characters, random.binomial(characters, 0.7)], axis=-1).reshape(count, -1)
        counts: dict[str, Any] = {
            "exact_match": exact_counts((random.random(count) < 0.6).tolist()),
            "bleu": bleu.astype(np.int32),
            "chrf": chrf.astype(np.int32),
            "loss": np.stack([random.exponential(3.0, count), lengths.astype(float)], axis=1),
            "aer": np.stack([lengths // 2, lengths // 2, lengths, lengths], axis=1).astype(np.int32),
        }
        found[name] = SentenceStatistics(tuple(f"{name}-{index:05d}" for index in range(count)), counts)
    return found


def manifest(group: int, seed: int) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "name": f"run-{seed}",
        "seed": seed,
        "data": {"name": "grammar", "train_size": 24000, "max_tokens": 3072},
        "attention": {"name": "multi_head"},
        "optimizer": {"name": "adamw", "lr": 1e-4 * (1 + group)},
        "trainer": {"max_steps": 1000},
        "decoding": {"name": "greedy"},
        "logger": {},
    }
    settings["model"] = dict.fromkeys(("d_model", "num_heads", "d_ff", "num_layers", "dropout"), 64)
    place = {"device": "cpu", "precision": "32-true", "threads": 1, "platform": "Linux"}
    return {"settings": copy.deepcopy(settings), "data": {"hash": "d" * 64}, "versions": {"torch": "2.13"}, **place}


def results(random: np.random.Generator, sentences: int) -> dict[str, Any]:
    found: dict[str, Any] = {"parameters": 66816, "train/steps": 1000, "train/target_tokens": 2_000_000}
    found |= {"train/flops_per_token": 4e5, "train/seconds": 100.0 + random.random(), "train/tokens_per_second": 2e4}
    for name, share in SETS.items():
        prefix = "test/" if name == "test" else f"test/{name}/"
        for measure in ("exact_match", "aer", "loss", "token_accuracy", "aer_norms", "aer_soft", "aer_mean_heads"):
            found[prefix + measure] = random.random()
        found |= {f"{prefix}bleu": 100 * random.random(), f"{prefix}chrf": 100 * random.random()}
        found[f"{prefix}sentences"] = round(share * sentences)
        for length in ("1-5", "6-7", "8-10"):
            found[f"{prefix}length/{length}/exact_match"] = random.random()
        for tag in PHENOMENA:
            for measure in ("exact_match", "aer", "aer_norms", "aer_diagonal", "aer_perfect"):
                found[f"{prefix}phenomenon/{tag}/{measure}"] = random.random()
    return found


def write_metrics(file: Path, random: np.random.Generator) -> None:
    """A row of training every ten steps of a thousand, and twenty validations."""
    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, COLUMNS)
        writer.writeheader()
        for step in range(10, 1001, 10):
            row: dict[str, Any] = {"step": step, "epoch": 0, "seconds": 0.1 * step}
            writer.writerow({**row, **{name: random.random() for name in COLUMNS if name.startswith("train/")}})
            if step % 50 == 0:
                writer.writerow({**row, **{name: random.random() for name in COLUMNS if name.startswith("val/")}})


if __name__ == "__main__":
    main()
