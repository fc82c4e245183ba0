"""`attnframe bench`: what variants and backends cost here, side by side."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnframe.cli import composition
from attnframe.cli.output import print_json, wants_help
from attnframe.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from attnframe.bench import Benchmark, Growth, Row

USAGE = """attnframe bench [OVERRIDE ...] [--csv FILE] [--figure FILE] [--json]
        forward and backward time, TFLOP/s and peak memory of variants on backends, and how they grow with the length

  attnframe bench                                                   multi_head, on each backend that this machine has
  attnframe bench attention=multi_head,latent,linear backend=eager,sdpa
  attnframe bench 'bench.lengths=[128,512,2048]' 'bench.dtypes=[float32,bfloat16]'
  attnframe bench 'bench.timed=[attend]' bench.causal=true,false    from q, k and v alone; with and without the mask
  attnframe bench model.d_model=2048 model.num_heads=16 bench.tokens=16384 'bench.lengths=[1024,4096,16384]'
  attnframe bench attention=low_rank_v attention.rank=2,8 --csv ranks.csv --figure ranks.png

attention, its options, backend, model and its d_model and num_heads, bench.causal, bench.batch and bench.tokens may
    have several values, with commas between; every combination is a line. Further overrides: device=auto|cpu|cuda,
    seed, bench.rounds (10), bench.warm_up (2), bench.backward=false.
timed: `module` is a whole variant in self-attention, from embeddings to embeddings; `attend` what it asks of its
    backend, from q, k and v. forward is without gradients; backward is the pass for the gradients alone.
TFLOP/s: of matrix products, the same count for every backend: a causal mask halves those of attend.
peak: the most memory in use at once beyond what is there before the call; of backward, with its forward pass.
kernel: what ran in attend, of all that did the longest: on a GPU a kernel, on a CPU an operator of PyTorch.
What cannot run is a row with the reason. Ctrl-C prints what was measured until then. docs/benchmarking.md
"""

_FLAGS = {"--csv": "FILE", "--figure": "FILE", "--json": ""}


def main(arguments: list[str]) -> int:
    """Exit code 0, or 130 when it was interrupted. Raises `UserError`."""
    if wants_help(arguments):
        print(USAGE, end="")
        return 0
    overrides, flags = _parse(arguments)
    if "--csv" in flags:
        _check_csv_path(flags["--csv"])
    if "--figure" in flags:
        from attnframe.patterns.pictures.figure_file import check_figure_path

        check_figure_path(Path(flags["--figure"]))
    composition.prepare()

    # Here and not above: -h and a mistyped flag need not wait for them.
    from attnframe.bench import Benchmark
    from attnframe.cli.bench_lines import asked

    wanted = asked(overrides)
    benchmark = Benchmark(
        wanted.lines,
        device=wanted.device,
        rounds=wanted.rounds,
        warm_up=wanted.warm_up,
        backward=wanted.backward,
        seed=wanted.seed,
    )
    # So that SIGTERM too prints what there is.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    interrupted = False
    try:
        with _progress() as advance:
            benchmark.run(advance)
    except KeyboardInterrupt:
        interrupted = True
    _show(benchmark, flags, interrupted=interrupted)
    if interrupted:
        print("attnframe bench: stopped; this is what was measured until then", file=sys.stderr)
    return 130 if interrupted else 0


def _show(benchmark: Benchmark, flags: dict[str, str], *, interrupted: bool) -> None:
    import torch

    from attnframe.bench import growths
    from attnframe.cli import bench_table

    rows = benchmark.rows()
    growth = growths(rows)
    # Files first: they are there, whoever has gone away from the other end of a pipe.
    failed = None
    if interrupted and not any(row.forward for row in rows):
        flags.pop("--figure", None)
    try:
        _write_files(rows, growth, flags)
    except UserError as error:
        failed = error
    if "--json" in flags:
        device = benchmark.device
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
        about = {"torch": torch.__version__, "device": name, "threads": torch.get_num_threads()}
        print_json({**about, "interrupted": interrupted, "rows": bench_table.as_json(rows, growth)})
    else:
        bench_table.print_rows(rows, growth, benchmark.rounds)
    if failed is not None:
        raise failed


def _write_files(rows: Sequence[Row], growth: Sequence[Growth], flags: dict[str, str]) -> None:
    from attnframe.cli import bench_table

    if "--csv" in flags:
        try:
            Path(flags["--csv"]).write_text(bench_table.as_csv(rows, growth), encoding="utf-8")
        except OSError as error:
            raise UserError(f"--csv {flags['--csv']}: it cannot be written: {error.strerror}") from error
    if "--figure" in flags:
        from attnframe.bench.picture import draw

        draw(rows, growth, Path(flags["--figure"]))


def _parse(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """The overrides, and each flag that was given with its value."""
    overrides: list[str] = []
    flags: dict[str, str] = {}
    left = list(arguments)
    while left:
        item = left.pop(0)
        flag, is_joined, value = item.partition("=")
        if flag in _FLAGS:
            if not _FLAGS[flag] and is_joined:
                raise UserError(f"{item}: {flag} takes no value")
            if _FLAGS[flag] and not is_joined:
                value = left.pop(0) if left else ""
            if _FLAGS[flag] and not value:
                raise UserError(f"{flag} needs its FILE: {flag} FILE")
            flags[flag] = value
        elif item.startswith("-"):
            raise UserError(f"{item}: there is no such flag; {did_you_mean(item, [*_FLAGS, '-h'])}")
        elif not is_joined and not item.startswith("~"):
            raise UserError(f"{item}: this is neither KEY=VALUE nor a flag; a variant is chosen by attention={item}")
        else:
            overrides.append(item)
    return overrides, flags


def _check_csv_path(path: str) -> None:
    """Before anything is measured."""
    if os.path.isdir(path):  # noqa: PTH112
        raise UserError(f"--csv {path}: this is a folder")
    folder = Path(path).parent
    if not os.path.isdir(folder):  # noqa: PTH112
        raise UserError(f"--csv {path}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise UserError(f"--csv {path}: the folder {folder} cannot be written to")


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[float, float], None]]:
    """A bar with the time left on the terminal's standard error; the yielded function takes how much of how much."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("measured"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)
