"""What heads are good for: does the head that matters most on validation also matter most on the test set?

Run from the repository root, with the folders of finished runs (nothing in them is written):
OMP_NUM_THREADS=1 python benchmarks/ablation.py outputs/grammar-multi_head/*

A row for each run: test BLEU untouched and with all cross-attention heads zeroed; then the head whose zeroing raises
the loss most on 500 validation sentences, what the test loss rises by without it (nats per target token), the mean of
that over all other heads, and how many of them raise it more. The same for BLEU falls in the last columns.
"""

from __future__ import annotations

import statistics
import sys

from attnframe import load_run
from attnframe.model.parts import Part
from attnframe.training.ablation import AblationStudy, ablate

COLUMNS = (
    *("run", "bleu", "bleu_without_cross", "head", "loss_rise", "mean_of_others", "others_that_raise_more", "others"),
    *("bleu_fall", "mean_bleu_fall_of_others"),
)


def main() -> None:
    print("\t".join(COLUMNS))
    for path in sys.argv[1:]:
        run = load_run(path)
        val = ablate(run, modes=["zero"])
        test = ablate(run, set_name="test", sentences=2000, modes=["zero"])
        losses, bleus = changes(test, "loss"), changes(test, "bleu")
        head = max(changes(val, "loss").items(), key=lambda item: item[1])[0]
        rise, fall = losses.pop(head), bleus.pop(head)
        assert head.layer is not None
        assert head.head is not None
        row = [
            path,
            f"{test.untouched['bleu']:.1f}",
            f"{of_part(test, Part('cross'), 'bleu'):.2f}",
            f"{head.site}, layer {head.layer + 1}, head {head.head + 1}",
            f"{rise:.4f}",
            f"{statistics.mean(losses.values()):.4f}",
            str(sum(other > rise for other in losses.values())),
            str(len(losses)),
            f"{-fall:.2f}",
            f"{-statistics.mean(bleus.values()):.2f}",
        ]
        print("\t".join(row), flush=True)


def changes(study: AblationStudy, measure: str) -> dict[Part, float]:
    """By head."""
    return {one.part: one.changes[measure] for one in study.ablations if one.part.what == "head"}


def of_part(study: AblationStudy, part: Part, measure: str) -> float:
    return next(one.scores[measure] for one in study.ablations if one.part == part)


if __name__ == "__main__":
    main()
