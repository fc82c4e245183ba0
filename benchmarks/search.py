"""A search of 30 trials, killed after 10 and gone on with: what it found, pruned and lost.

Run from the repository root (some minutes; everything is written into a temporary folder, or into the one given):
OMP_NUM_THREADS=1 python benchmarks/search.py [FOLDER]

It searches the learning rate (on a logarithmic scale, far beyond where training diverges to NaN), the variant, and the
rank of low_rank_v where that is chosen. After 10 trials have ended it is killed with SIGKILL; the same command goes on.
The lines below say how the trials of the one study ended, how long both parts took (seconds), and the best as a line to
paste after `attnframe train`, which is run, and whose validation loss is held against that of the trial.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

ATTNFRAME = [sys.executable, "-c", "import sys; from attnframe.cli import main; sys.argv[0] = 'attnframe'; main()"]
SMALL = (
    *("debug=fast", "data.train_size=2000", "data.val_size=50", "data.test_size=20", "data.held_out_size=20"),
    *("data.max_tokens=1000", "model.d_model=32", "model.num_heads=2", "model.d_ff=64", "scheduler.warmup_steps=10"),
    *("trainer.max_steps=80", "trainer.val_check_interval=10", "callbacks.patterns.sentences=0"),
)
SEARCH = (
    *("-m", "sweep=search", "hydra/sweeper=attnframe_optuna", "hydra.sweeper.n_trials=30"),
    *("optimizer.lr=tag(log,interval(1e-4,1e4))", "attention=multi_head,low_rank_v", "attention.rank=1,2,4,8"),
    "hydra.sweeper.conditions={attention.rank:'attention=low_rank_v'}",
)
KILLED_AFTER = 10


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(tempfile.mkdtemp(prefix="attnframe_search_"))
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [*ATTNFRAME, "train", *SEARCH, *SMALL]

    begun = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    while ended(folder) < KILLED_AFTER and process.poll() is None:
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    print(f"killed after\t{ended(folder)} trials\t{time.perf_counter() - begun:.0f} s")
    print(f"running\t{[trial.number for trial in trials(folder) if trial.state.name == 'RUNNING']}")
    before = {trial.number: (trial.state, trial.values) for trial in trials(folder) if trial.state.is_finished()}

    begun = time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    print(done.stdout + done.stderr)
    print(f"gone on\texit code {done.returncode}\t{time.perf_counter() - begun:.0f} s")
    after = trials(folder)
    print(f"trials\t{len(after)}\t{dict(Counter(trial.state.name for trial in after))}")
    print(f"kept\t{all(before[number] == (after[number].state, after[number].values) for number in before)}")
    print(f"nan\t{sum('nan' in trial.user_attrs.get('reason', '') for trial in after)}")
    folders = list((folder / "outputs" / "sweeps" / "search").glob("*/trial.json"))
    print(f"run folders\t{len(folders)}")

    (line,) = [line.removeprefix("best: ") for line in done.stdout.splitlines() if line.startswith("best: ")]
    subprocess.run([*ATTNFRAME, "train", *shlex.split(line)], cwd=folder, env=environment, check=True)
    (results,) = folder.glob("outputs/debug/*/results.json")
    best = min(trial.value for trial in after if trial.state.name == "COMPLETE" and trial.value is not None)
    print(f"best\t{best}\tpasted\t{json.loads(results.read_text(encoding='utf-8'))['val/loss']}")
    print(f"report\t{folder / 'outputs' / 'sweeps' / 'search' / 'search.html'}")


def trials(folder: Path) -> list[optuna.trial.FrozenTrial]:
    """Those of the study so far."""
    journal = folder / "outputs" / "sweeps" / "search" / "search.journal"
    if not journal.exists():
        return []
    storage = JournalStorage(JournalFileBackend(str(journal)))
    names = optuna.get_all_study_names(storage)
    return optuna.load_study(study_name=names[0], storage=storage).trials if names else []


def ended(folder: Path) -> int:
    return sum(trial.state.is_finished() for trial in trials(folder))


if __name__ == "__main__":
    main()
