"""What do 200 plugin files cost a command that only starts up?

Run from the repository root: OMP_NUM_THREADS=1 python benchmarks/plugin_startup.py [ROUNDS]

`attnframe list attention` and `attnframe train --cfg job`, each in a process of its own, without plugin files and with
200 generated ones (copies of plugins/forgetting.py under other names), one of which is broken; in turns, so that what
else the machine does falls on both. `first` is the start that has no bytecode of the files yet. Seconds by the wall
clock and of the processor, which counts where others share the machine. Medians; a difference is that of a pair.

Expected before it was first run: 200 files cost 0.2 to 0.5 seconds (1 ms a file to import, 1 ms for its config schema),
a first start twice that, both under the 1 second that is the limit, with one warning.

Found, five pairs each, on two cores at a load of 4: 0.32 seconds of the processor for `list
attention` (2.3 without, 2.6 with), 0.23 for `train --cfg job` (2.5 and 2.7), and no more without bytecode: compiling 40
short lines costs nothing that could be seen. By the wall clock 0.75 and 0.36 there, pairs differing by more than that.
An earlier try, on a machine yet busier, said 1.0 and 1.2 by the wall clock.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
START = "import sys; sys.argv[0] = 'attnframe'; from attnframe.cli import main; main()"
COMMANDS = (("list", "attention"), ("train", "--cfg", "job"))
FILES, BROKEN = 200, 97


def write_plugins(folder: Path) -> None:
    """`FILES` plugin files, one of them broken."""
    folder.mkdir()
    source = (ROOT / "plugins" / "forgetting.py").read_text(encoding="utf-8")
    for number in range(FILES):
        name = f"variant_{number:03}"
        text = "1 / 0\n" if number == BROKEN else source.replace('"forgetting"', f'"{name}"')
        (folder / f"{name}.py").write_text(text, encoding="utf-8")


def seconds(command: tuple[str, ...], folder: Path, plugins: str, warnings: int) -> tuple[float, float]:
    """What `attnframe COMMAND` takes, by the wall clock and of the processor; it must say so many warnings, no more."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ATTNFRAME_PLUGINS": plugins}
    begin, begin_processor = time.perf_counter(), _processor_seconds()
    done = subprocess.run(
        [sys.executable, "-c", START, *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    taken = time.perf_counter() - begin, _processor_seconds() - begin_processor
    assert len(done.stderr.splitlines()) == warnings, done.stderr
    return taken


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    print("command\tclock\twithout_s\twith_200_s\tdifference_s\tratio\tfirst_difference_s", flush=True)
    for command in COMMANDS:
        with tempfile.TemporaryDirectory() as folder:
            plugins = Path(folder) / "many"
            write_plugins(plugins)
            seconds(command, Path(folder), "", 0)
            pairs = [
                (seconds(command, Path(folder), "", 0), seconds(command, Path(folder), str(plugins), 1))
                for _ in range(rounds + 1)
            ]
        for index, clock in enumerate(("wall", "processor")):
            first, *others = [(a[index], b[index], b[index] - a[index]) for a, b in pairs]
            without, with_them, difference = (statistics.median(column) for column in zip(*others, strict=True))
            print(
                f"{' '.join(command)}\t{clock}\t{without:.2f}\t{with_them:.2f}\t{difference:.2f}"
                f"\t{with_them / without:.2f}\t{first[2]:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
