"""Seconds per training step of the default model, by how torch's threads wait, on an idle machine and a busy one.

Run from the repository root: python benchmarks/thread_waiting.py. Needs two cores; "busy" occupies one of them.
Settings are measured in turn, in processes of their own, and printed as ratios to the first in the same surroundings.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

SETTINGS = ({}, {"GOMP_SPINCOUNT": "1000"}, {"GOMP_SPINCOUNT": "10000"}, {"OMP_WAIT_POLICY": "PASSIVE"})
REPEATS = 3
STEPS = 30
WARM_UP = 5


def main() -> None:
    for surroundings in ("idle", "busy"):
        neighbour = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if surroundings == "busy" else None
        try:
            seconds = [[measure(setting) for setting in SETTINGS] for _ in range(REPEATS)]
        finally:
            if neighbour is not None:
                neighbour.kill()
        medians = [statistics.median(column) for column in zip(*seconds, strict=True)]
        for setting, median in zip(SETTINGS, medians, strict=True):
            name = " ".join(f"{key}={value}" for key, value in setting.items()) or "as torch comes"
            print(f"{surroundings}\t{name}\t{median:.3f} s\t{median / medians[0]:.2f}", flush=True)


def measure(setting: dict[str, str]) -> float:
    """Seconds per step under environment `setting`."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_"))}
    done = subprocess.run(
        [sys.executable, __file__, "steps"], env={**environment, **setting}, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def steps() -> None:
    """Print the seconds per step of a batch like those of the default run."""
    import torch
    from torch.nn.functional import cross_entropy

    from attnframe.model import SITES, AttentionFactory, Seq2Seq, VariantChoice

    choices = {site: [VariantChoice("multi_head")] * 2 for site in SITES}
    attention = AttentionFactory(choices=choices, d_model=128, encoder_d_model=128, num_heads=4)
    model = Seq2Seq(
        src_vocab_size=369,
        tgt_vocab_size=606,
        attention=attention,
        num_encoder_layers=2,
        num_decoder_layers=2,
        d_ff=512,
        dropout=0.1,
    )
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    src, tgt = torch.randint(4, 369, (160, 9)), torch.randint(4, 606, (160, 10))
    keep = torch.ones_like(src, dtype=torch.bool)
    start = 0.0
    for step in range(WARM_UP + STEPS):
        if step == WARM_UP:
            start = time.perf_counter()
        cross_entropy(model(src, keep, tgt).flatten(0, 1), tgt.flatten()).backward()
        optimizer.step()
        optimizer.zero_grad()
    print((time.perf_counter() - start) / STEPS)


if __name__ == "__main__":
    steps() if sys.argv[1:] == ["steps"] else main()
