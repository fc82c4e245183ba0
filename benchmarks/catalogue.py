"""Every core variant on the grammar task, with three seeds and as many parameters as multi_head: docs/catalogue.md.

Run from the repository root (three minutes a run, a run a core at a time: 90 minutes on two cores; started again with
the same folder it goes on where it was):
OMP_NUM_THREADS=1 python benchmarks/catalogue.py FOLDER

It is the sweep that the first line printed shows, without plugins and presets, and then `attnframe compare` of it.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import attnframe.attention
from attnframe import registry

ATTNFRAME = [sys.executable, "-c", "import sys; from attnframe.cli import main; sys.argv[0] = 'attnframe'; main()"]
SEEDS = (1, 2, 3)


def main() -> None:
    folder = Path(sys.argv[1])
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
    compare = ["compare", "outputs/sweeps/catalogue", "--no-open", "--set", "test"]
    subprocess.run([*ATTNFRAME, *compare], cwd=folder, env=environment, check=True)
    sys.exit(done.returncode)


if __name__ == "__main__":
    main()
