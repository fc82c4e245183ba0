"""Running `attnframe` as a user does: in a process of its own, in a folder and an environment of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

CONSOLE_SCRIPT = "import sys; from attnframe.cli import main; sys.argv[0] = 'attnframe'; main()"

SMALL = (
    "debug=fast",
    "data.train_size=400",
    "data.val_size=20",
    "data.test_size=20",
    "data.held_out_size=20",
    "model.d_model=32",
    "model.num_heads=2",
    "model.d_ff=64",
)
"""A run of a second or two."""

# Imports once, then forks a fresh process for each request: imports take several times as long as a small run does.
_SERVER = """
import atexit, importlib, json, os, sys, weakref
for name in sys.argv[1].split(","):
    importlib.import_module(name)
for line in sys.stdin:
    request = json.loads(line)
    child = os.fork()
    if not child:
        break
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), flush=True)
else:
    sys.exit()
for inherited in list(weakref.finalize._registry):
    inherited.detach()  # temporary folders are the parent's to delete
if media := sys.modules.get("wandb.sdk.data_types._private"):
    atexit.unregister(media.MEDIA_TMP.cleanup)
os.chdir(request["cwd"])
os.environ.clear()
os.environ.update(request["env"])
os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
for number, name in ((1, "stdout"), (2, "stderr")):
    os.dup2(os.open(os.path.join(request["files"], name), os.O_WRONLY | os.O_CREAT), number)
def leave_modules():
    with open(os.path.join(request["files"], "modules"), "w") as file:
        file.write("\\n".join(sys.modules))
atexit.register(leave_modules)
sys.argv = ["attnframe", *request["arguments"]]
from attnframe.cli import main
main()
"""


@dataclass(frozen=True)
class Finished:
    """What a command left: its exit code, what it printed, and the modules that it had imported at the end."""

    status: int
    stdout: str
    stderr: str
    modules: frozenset[str]


def environment(home: Path, **more: str) -> dict[str, str]:
    """The environment of someone without settings or credentials, with one thread."""
    dropped = ("WANDB", "ATTNFRAME", "HYDRA", "NETRC", "PL_", "SLURM")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(dropped)}
    return {**kept, "HOME": str(home), "OMP_NUM_THREADS": "1", **more}


class PreparedCommand:
    """`attnframe` with some of its imports already done. Use as a context manager."""

    def __init__(self, imports: str, home: Path) -> None:
        self._environment = environment(home)
        self._process = subprocess.Popen(
            [sys.executable, "-c", _SERVER, imports],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
            cwd=home,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=10)
        self._process.stdout.close()

    def __call__(self, *arguments: str, cwd: Path, env: Mapping[str, str] = {}) -> Finished:
        """Run `attnframe ARGUMENTS` in `cwd`."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as files:
            request = {
                "arguments": arguments,
                "cwd": str(cwd),
                "files": files,
                "env": {**self._environment, **env},
            }
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            status = int(self._process.stdout.readline())
            stdout, stderr, modules = (
                (Path(files) / name).read_text(encoding="utf-8") for name in ("stdout", "stderr", "modules")
            )
        return Finished(status, stdout, stderr, frozenset(modules.split()))


def run_folders(folder: Path) -> list[Path]:
    """Every run folder under `folder`, by name."""
    return sorted(manifest.parent for manifest in folder.rglob("manifest.json"))


def markers(run: Path) -> list[str]:
    """The names of the markers in a run folder."""
    return sorted(file.name for file in run.iterdir() if file.name in ("DONE", "INTERRUPTED", "FAILED"))
