"""Every core variant on the grammar task, with three seeds and as many parameters as multi_head: docs/catalogue.md.

Run from the repository root (four to five minutes a run, a run a core at a time: over two hours on two cores; started
again with the same folder it goes on where it was):
OMP_NUM_THREADS=1 python benchmarks/catalogue.py FOLDER

It is a sweep without plugins and presets and `attnframe compare` of it, each command printed before it runs. How fast
each trains is measured by a sweep of short runs afterwards: in hours something disturbs some runs and not others. At
the end stands the table of docs/catalogue.md.
"""

from __future__ import annotations

import csv
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import attnframe.attention
from attnframe import registry

ATTNFRAME = [sys.executable, "-c", "import sys; from attnframe.cli import main; sys.argv[0] = 'attnframe'; main()"]
SEEDS = (1, 2, 3)
SETS = ("test", "unseen_pairs", "composition", "longer")
# Asked apart, for the more differences are drawn the less each can show.
QUESTIONS = {
    "exact_match": ("outputs/sweeps/catalogue", "--metric", "exact_match", "--set", ",".join(SETS)),
    "aer": ("outputs/sweeps/catalogue", "--metric", "aer", "--set", "test"),
    "rates": ("outputs/sweeps/rates", "--metric", "loss", "--set", "test"),
}
SHORT = (
    *("trainer.max_steps=100", "trainer.val_check_interval=100", "callbacks.patterns.sentences=0"),
    *("data.val_size=20", "data.test_size=20", "data.held_out_size=20", "callbacks.patterns.statistics=0"),
)


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    # Importing the package of the variants registers those of the core, and no others.
    variants = f"attention={','.join(registry.variants())}"
    on_every_core = ("match=params", "hydra/launcher=joblib", f"hydra.launcher.n_jobs={os.cpu_count()}")
    seeds = f"seed={','.join(map(str, SEEDS))}"
    codes = [_attnframe(folder, "train", "-m", "sweep=catalogue", variants, seeds, "logger=csv", *on_every_core)]
    codes.append(_attnframe(folder, "train", "-m", "sweep=rates", variants, "logger=none", *SHORT, *on_every_core))
    # An old answer must not stand for one that fails.
    shutil.rmtree(folder / "compared", ignore_errors=True)
    for name, question in QUESTIONS.items():
        codes.append(_attnframe(folder, "compare", *question, "--no-open", "--output", f"compared/{name}"))
    print("\n".join(_table({name: folder / "compared" / name / "comparison.csv" for name in QUESTIONS})))
    sys.exit(any(codes))


def _attnframe(folder: Path, *arguments: str) -> int:
    """The exit code."""
    print(f"attnframe {shlex.join(arguments)}", flush=True)
    root = str(Path(attnframe.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root, "ATTNFRAME_PLUGINS": ""}
    return subprocess.run([*ATTNFRAME, *arguments], cwd=folder, env=environment, check=False).returncode


def _table(comparisons: Mapping[str, Path]) -> Iterator[str]:
    """The lines of a Markdown table: a row for each variant, the mean over its seeds ± half of the 95 % t interval."""
    found: dict[str, dict[tuple[str, str, str], dict[str, str]]] = {}
    for question, comparison in comparisons.items():
        if not comparison.exists():
            continue
        with comparison.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault(row["group"], {})[question, row["set"], row["measure"]] = row
    heads = ["variant", "parameters", *(f"exact match, {name}" for name in SETS), "AER", "steps to 0.95", "tokens / s"]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for variant, of in sorted(found.items()):
        cells = [
            f"`{variant}`",
            _cell(of.get(("exact_match", "", "parameters")), 1, ",.0f"),
            *(_cell(of.get(("exact_match", name, "exact_match")), 100, ".1f", " %") for name in SETS),
            _cell(of.get(("aer", "test", "aer")), 1, ".3f"),
            _cell(of.get(("exact_match", "", "steps to 0.95")), 1, ",.0f"),
            _cell(of.get(("rates", "", "tokens / s")), 1, ",.0f"),
        ]
        yield f"| {' | '.join(cells)} |"


def _cell(row: dict[str, str] | None, factor: float, form: str, unit: str = "") -> str:
    if row is None or not row["mean"]:
        return "none"
    mean, high = float(row["mean"]), float(row["high"] or "nan")
    spread = "" if high != high or high == mean else f" ± {factor * (high - mean):{form}}"
    seeds = "" if row["runs"] == row["of_runs"] else f" ({row['runs']} of {row['of_runs']} runs)"
    return f"{factor * mean:{form}}{spread}{unit}{seeds}"


if __name__ == "__main__":
    main()
