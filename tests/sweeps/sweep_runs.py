"""Sweeps of runs of a second or two, in processes of their own, and what they left."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from command_line import CONSOLE_SCRIPT, environment
from stopping import last_step

PLUGIN = '''"""Queries and keys of a chosen width."""

from torch import nn

from attnframe import Attention, merge_heads, register_attention, split_heads


@register_attention("my_idea")
class MyIdea(Attention):
    """softmax(QK^T/sqrt(rank))V"""

    def __init__(self, d_model: int, num_heads: int, *, rank: int = 5) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query_proj = nn.Linear(d_model, num_heads * rank)
        self.key_proj = nn.Linear(d_model, num_heads * rank)
        self.value_proj = nn.Linear(d_model, d_model)

    def forward(self, query, key, value, mask):
        q = split_heads(self.query_proj(query), self.num_heads)
        k = split_heads(self.key_proj(key), self.num_heads)
        v = split_heads(self.value_proj(value), self.num_heads)
        return merge_heads(self.attend(q, k, v, mask))
'''

# What two runs of the same job may differ in.
_OF_THE_MACHINE = re.compile(r"train/(seconds|tokens_per_second|peak_memory_bytes)|eval/.*")


def put_plugin(folder: Path, text: str = PLUGIN) -> Path:
    """The plugin in the plugin folder of a working directory."""
    file = folder / "plugins" / "my_idea.py"
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def start_sweep(folder: Path, *arguments: str, **variables: str) -> subprocess.Popen[str]:
    """`attnframe train -m ARGUMENTS` in `folder`, under way, in a process group of its own."""
    chosen = environment(folder, ATTNFRAME_PLUGINS="plugins", **variables)
    return subprocess.Popen(
        [sys.executable, "-c", CONSOLE_SCRIPT, "train", "-m", *arguments],
        cwd=folder,
        env=chosen,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def sweep(folder: Path, *arguments: str, seconds: float = 400, **variables: str) -> subprocess.CompletedProcess[str]:
    """`attnframe train -m ARGUMENTS` in `folder`, to its end."""
    process = start_sweep(folder, *arguments, **variables)
    try:
        stdout, stderr = process.communicate(timeout=seconds)
    finally:
        kill_group(process)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def kill_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL for a process and everything it has started in its group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(timeout=30)
    for pipe in (process.stdout, process.stderr):
        assert pipe is not None
        pipe.close()


def wait_for(condition: Any, process: subprocess.Popen[str], seconds: float = 200) -> Any:
    """What `condition()` gives once it is true, while `process` runs."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def job_under_way(folder: Path, step: int) -> Path | None:
    """The folder of a run below `folder` that is past `step` and has not ended."""
    for file in sorted(folder.rglob("metrics.csv")):
        if last_step(file) >= step and not any((file.parent / name).exists() for name in ("DONE", "FAILED")):
            return file.parent
    return None


def process_of(run: Path) -> int:
    """The id of the process that runs in a folder."""
    match = re.match(r"process (\d+) on ", (run / ".lock").read_text(encoding="utf-8"))
    assert match
    return int(match[1])


def results(folder: Path) -> dict[tuple[str, ...], dict[str, Any]]:
    """By the overrides of each job its line in results.jsonl, without what another run of it would have otherwise."""
    lines = [json.loads(line) for line in (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    found = {
        tuple(line["overrides"]): {key: value for key, value in line.items() if not _OF_THE_MACHINE.fullmatch(key)}
        for line in lines
    }
    assert len(found) == len(lines), "a job has two lines"
    return found


def table(printed: str) -> dict[str, dict[str, str]]:
    """By job the row of the last table that a sweep has printed, without its columns of time."""
    lines = printed.splitlines()
    start = max(number for number, line in enumerate(lines) if line.startswith("job\tended\t"))
    columns = lines[start].split("\t")
    rows = [line.split("\t") for line in lines[start + 1 :] if line.count("\t") == len(columns) - 1]
    return {
        row[0]: {name: cell for name, cell in zip(columns, row, strict=True) if not _OF_THE_MACHINE.fullmatch(name)}
        for row in rows
    }
