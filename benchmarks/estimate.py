"""How near is `attnframe.training.estimate` to the time that a run takes?

Run from the repository root: OMP_NUM_THREADS=1 python benchmarks/estimate.py [OVERRIDE ...]

A row for each of a few variants, on the default run of 200 steps (or what the overrides say): the estimate, the seconds
that it took to make, the seconds of the whole run but for reading its data, and the ratio of estimate to truth. All are
seconds of the processor, so that other processes do not matter; that is why there must be one thread.

Expected before it was first run: 0.75 to 1.05, below 1 for what the estimate leaves out (callbacks, pattern snapshots,
statistics of heads, checkpoints), and no variant further from the others than 0.1.

Found, on two cores shared with other work, which costs processor seconds too (memory, caches) and not evenly: 0.96
(multi_head), 1.01 (uniform), 1.17 (low_rank_v): the last lies outside of what was expected, and 0.2 from the first. By
the wall clock, on a machine that grew busier while the run went on, an estimate was 0.42 of the truth.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from attnframe.cli import composition, settings
from attnframe.runs import building
from attnframe.training.data_module import TranslationData
from attnframe.training.estimate import estimate_seconds
from attnframe.training.run import run

VARIANTS = ("multi_head", "uniform", "low_rank_v")
SHORT = ("logger=none", "trainer.max_steps=200", "trainer.enable_progress_bar=false")


def main() -> None:
    composition.prepare()
    print("variant\testimate_s\tmade_in_s\ttruth_s\tratio", flush=True)
    for variant in VARIANTS:
        config = composition.compose_config([*SHORT, f"attention={variant}", *sys.argv[1:]])
        chosen = settings.plain(config)
        attention = building.attention_factory(chosen)
        begin = time.process_time()
        data = TranslationData(chosen["data"], seed=chosen["seed"])
        reading = time.process_time() - begin
        begin = time.process_time()
        estimate = estimate_seconds(chosen, attention, data, clock=time.process_time)
        made_in = time.process_time() - begin
        assert estimate is not None
        with tempfile.TemporaryDirectory() as folder:
            begin = time.process_time()
            run(chosen, Path(folder) / "run", attention)
            truth = time.process_time() - begin - reading
        print(f"{variant}\t{estimate:.1f}\t{made_in:.1f}\t{truth:.1f}\t{estimate / truth:.2f}", flush=True)


if __name__ == "__main__":
    main()
