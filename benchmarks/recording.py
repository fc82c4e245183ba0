"""What recording patterns costs the default run: time and memory of training with it, against training without.

Run from the repository root: python benchmarks/recording.py [PAIRS] [OVERRIDE ...]. Each of PAIRS (default 3) pairs is
a run with the default recording and one without, in processes of their own, and whichever came first in a pair comes
second in the next. Prints each pair and the medians: `fit` is from the first step to the end of the last validation,
recording included; `training` is the steps alone (train/seconds); `peak` is the largest memory of the process.
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

OFF = ("callbacks.patterns.sentences=0", "callbacks.patterns.statistics=0")
MEASURES = ("fit", "training", "peak")


def main(arguments: list[str]) -> None:
    pairs = int(arguments.pop(0)) if arguments and arguments[0].isdecimal() else 3
    ratios: dict[str, list[float]] = {name: [] for name in MEASURES}
    for pair in range(pairs):
        order = ("on", "off") if pair % 2 == 0 else ("off", "on")
        found = {state: measure(OFF if state == "off" else (), arguments) for state in order}
        for name in MEASURES:
            ratios[name].append(found["on"][name] / found["off"][name])
        described = (f"{name} {found['on'][name]:.1f} / {found['off'][name]:.1f}" for name in MEASURES)
        print(f"pair {pair + 1} ({' then '.join(order)}), on / off in s and MiB: {', '.join(described)}", flush=True)
    for name, values in ratios.items():
        median = statistics.median(values)
        print(f"{name}: on / off = {median:.4f} (median of {pairs}, from {min(values):.4f} to {max(values):.4f})")


def measure(recording: tuple[str, ...], overrides: list[str]) -> dict[str, float]:
    """Seconds and MiB of one run."""
    script = "import sys; from attnframe.cli import main; sys.argv[0] = 'attnframe'; main()"
    with tempfile.TemporaryDirectory() as folder:
        chosen = ["hydra.run.dir=run", "trainer.enable_progress_bar=false", *recording, *overrides]
        process = subprocess.Popen(
            [sys.executable, "-c", script, "train", *chosen],
            cwd=folder,
            env={**os.environ, "WANDB_MODE": "offline", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stdout=subprocess.DEVNULL,
        )
        # Of this process alone, and not of any other child.
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            sys.exit(f"a run failed with exit code {process.returncode}")
        results = json.loads((Path(folder) / "run" / "results.json").read_text(encoding="utf-8"))
        with (Path(folder) / "run" / "metrics.csv").open(encoding="utf-8", newline="") as file:
            *_, last = csv.DictReader(file)
    return {
        "fit": float(last["seconds"]),
        "training": results["train/seconds"],
        "peak": usage.ru_maxrss / 1024,  # KiB on Linux
    }


if __name__ == "__main__":
    main(sys.argv[1:])
