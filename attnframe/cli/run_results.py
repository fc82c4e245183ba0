"""What `attnframe train` prints when a run is done."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Any

from attnframe.cli.scores import print_scores


def print_results(results: dict[str, Any], folder: Path) -> None:
    """The scores as a table, then how it was trained and where its patterns and its report are."""
    print_scores(results)
    if not math.isfinite(results["val/loss"]):
        print("the loss is not a finite number: lower optimizer.lr or look at metrics.csv", file=sys.stderr)
    print(
        f"trained {results['train/steps']} steps in {results['train/seconds']:.0f} s, "
        f"{results['train/tokens_per_second']:.0f} target tokens/s, backend {results['backend']}"
    )
    print(f"patterns: {os.path.relpath(folder / 'patterns')}")
    if (folder / "report.html").exists():
        print(f"report: {os.path.relpath(folder / 'report.html')}")
    sys.stdout.flush()
