"""Real sentences at full length: seconds and BLEU of `experiment=tatoeba`, greedy and with a beam of 5.

    python benchmarks/tatoeba.py data.path=tatoeba.tsv.gz [OVERRIDE ...]

Takes about 25 minutes on two idle cores. Overrides go to the training run; the limits that the recipe is held to are
BLEU 50 greedy, 51 with the beam, and 25 minutes of training, validation and test.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path


def attnframe(*arguments: str) -> float:
    """Run a command; the seconds that it took."""
    started = time.perf_counter()
    subprocess.run([Path(sys.executable).parent / "attnframe", *arguments], check=True)
    return time.perf_counter() - started


def results(folder: Path) -> dict[str, float]:
    """The scores that a command has left."""
    scores: dict[str, float] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return scores


def main(overrides: list[str]) -> None:
    """Train, score again with a beam, print."""
    before = set(Path("outputs").glob("*/*"))
    training = attnframe("train", "experiment=tatoeba", *overrides)
    (run,) = set(Path("outputs").glob("*/*")) - before
    searching = attnframe("eval", f"run={run}", "decoding=beam", "decoding.beam_size=5")
    (again,) = (run / "eval").iterdir()
    for name, scores, seconds in (("greedy", results(run), training), ("beam 5", results(again), searching)):
        print(f"{name}: BLEU {scores['test/bleu']:.2f}, chrF {scores['test/chrf']:.2f}, {seconds / 60:.1f} min")
        print(f"        {scores['signature/bleu']}")
    print(f"parameters {results(run)['parameters']:,}, {results(run)['train/tokens_per_second']:.0f} target tokens/s")


if __name__ == "__main__":
    main(sys.argv[1:])
