"""Every core variant on the grammar task, with three seeds and as many parameters as multi_head: docs/catalogue.md.

Run from the repository root (four to five minutes a run, a run a core at a time: over two hours on two cores; started again with
the same folder it goes on where it was):
OMP_NUM_THREADS=1 python benchmarks/catalogue.py FOLDER

It is the sweep that the first line printed shows, without plugins and presets, and then `attnframe compare` of it. At
the end stands the table of docs/catalogue.md; with --table it is made of a sweep that has been compared, and nothing
runs.
"""

from __future__ import annotations

import csv
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import attnframe.attention
from attnframe import registry

ATTNFRAME = [sys.executable, "-c", "import sys; from attnframe.cli import main; sys.argv[0] = 'attnframe'; main()"]
SEEDS = (1, 2, 3)
SETS = ("test", "unseen_pairs", "composition", "longer")
SWEEP = "outputs/sweeps/catalogue"
# Asked apart, for the more differences are drawn the less each can show.
QUESTIONS = {
    "exact_match": ("--metric", "exact_match", "--set", ",".join(SETS)),
    "aer": ("--metric", "aer", "--set", "test"),
}


def main() -> None:
    arguments = [argument for argument in sys.argv[1:] if argument != "--table"]
    folder = Path(arguments[0])
    if "--table" not in sys.argv:
        _sweep(folder)
    print("\n".join(_table([folder / "compared" / name / "comparison.csv" for name in QUESTIONS])))


def _sweep(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # Importing the package of the variants registers those of the core, and no others.
    variants = ",".join(registry.variants())
    sweep = [
        *("train", "-m", "sweep=catalogue", f"attention={variants}", f"seed={','.join(map(str, SEEDS))}"),
        *("match=params", "logger=csv", "hydra/launcher=joblib", f"hydra.launcher.n_jobs={os.cpu_count()}"),
    ]
    print(f"attnframe {shlex.join(sweep)}", flush=True)
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(attnframe.__file__).parent.parent),
        "ATTNFRAME_PLUGINS": "",
    }
    done = subprocess.run([*ATTNFRAME, *sweep], cwd=folder, env=environment, check=False)
    for name, question in QUESTIONS.items():
        compare = ["compare", SWEEP, *question, "--no-open", "--output", f"compared/{name}"]
        subprocess.run([*ATTNFRAME, *compare], cwd=folder, env=environment, check=True)
    if done.returncode:
        sys.exit(done.returncode)


def _table(comparisons: Sequence[Path]) -> Iterator[str]:
    """The lines of a Markdown table: a row for each variant, the mean over its seeds ± half of the 95 % t interval."""
    found: dict[str, dict[tuple[str, str], dict[str, str]]] = {}
    for comparison in comparisons:
        with comparison.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault(row["group"], {})[row["set"], row["measure"]] = row
    heads = ["variant", "parameters", *(f"exact match, {name}" for name in SETS), "AER", "steps to 0.95", "tokens / s"]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    for variant, of in sorted(found.items()):
        cells = [
            f"`{variant}`",
            f"{float(of['', 'parameters']['mean']):,.0f}",
            *(_cell(of[name, "exact_match"], 100, ".1f", " %") for name in SETS),
            _cell(of.get(("test", "aer")), 1, ".3f"),
            _cell(of.get(("", "steps to 0.95")), 1, ",.0f"),
            _cell(of["", "tokens / s"], 1, ",.0f"),
        ]
        yield f"| {' | '.join(cells)} |"


def _cell(row: dict[str, str] | None, factor: float, form: str, unit: str = "") -> str:
    if row is None or not row["mean"]:
        return "none"
    mean, high = float(row["mean"]), float(row["high"] or "nan")
    spread = "" if high != high else f" ± {factor * (high - mean):{form}}"
    seeds = "" if row["runs"] == row["of_runs"] else f" ({row['runs']} of {row['of_runs']} runs)"
    return f"{factor * mean:{form}}{spread}{unit}{seeds}"


if __name__ == "__main__":
    main()
