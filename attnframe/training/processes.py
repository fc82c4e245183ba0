"""The processes beside the first one: starting them, telling them the job, and noticing when one dies."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import IO, Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store

from attnframe.training.meeting import arrival, given_place, meeting_point, new_meeting_point, place_at
from attnframe.training.parallelism import is_parallel, num_processes, processes_per_machine
from attnframe.training.world import World

# From the first sight of a dead process to the end of what waits for it in vain.
_GRACE_SECONDS = 60.0
_FAREWELL_SECONDS = 30.0
_MOMENT_SECONDS = 30.0


class ProcessEnded(Exception):  # noqa: N818  reads as what happened
    """Another process of the run died before the run was done."""


class Team:
    """All processes of a run, as the first one sees them. A run that is not parallel has no others.

    torchrun or Slurm has started the others, or they are started here: on this machine, with this interpreter. They
    print nothing; what one says before it dies comes with the `ProcessEnded`.
    """

    def __init__(self, trainer: Mapping[str, Any]) -> None:
        self.size = num_processes(trainer)
        self.world = World(0, self.size, self._look_around)
        self._others: list[tuple[subprocess.Popen[bytes], IO[bytes]]] = []
        self._store: Store | None = None
        self._is_together = False
        if not is_parallel(trainer):
            return
        if given_place()[1] == self.size > 1:
            self._store = meeting_point()
        else:
            self._store, port = new_meeting_point()
            self._others = [_start(place_at(rank, self.size, port)) for rank in range(1, self.size)]

    def tell(self, job: Mapping[str, Any]) -> None:
        """Give the others what they need to know, as plain JSON data; they wait for it."""
        if self._store is not None:
            self._store.set("job", json.dumps(job))

    def meet(self, device: torch.device, give_up: Callable[[str], None]) -> None:
        """Connect to the others, from here to `part`; this one computes on `device`.

        `give_up` is called, and then this process ends, where it waits in vain for one that has died. Between CPUs a
        lost connection is an error at once; a GPU waits.
        """
        if self._store is not None:
            self._is_together = True
            threading.Thread(target=self._watch, args=(give_up,), daemon=True).start()
            while not self._store.check([arrival(rank) for rank in range(1, self.size)] or ["job"]):
                self._raise_for_ended()
                time.sleep(0.05)
            self.world.connect(PrefixStore("groups", self._store), device)

    def part(self) -> None:
        """Go on alone."""
        self.world.disconnect()
        self._is_together = False

    def _look_around(self) -> None:
        # Who has left after the training may have left anyhow.
        if self._is_together:
            self._raise_for_ended()

    def _raise_for_ended(self) -> None:
        if ended := self._ended():
            raise ended

    def _ended(self) -> ProcessEnded | None:
        """Who has died and how, with all that it has said as a note; None where nobody has."""
        for rank, (process, output) in enumerate(self._others, start=1):
            code = process.poll()
            if code:
                output.seek(0)
                # PyTorch puts the rank before each line.
                said = re.sub(
                    r"^\[rank\d+\]: ?", "", output.read().decode("utf-8", "replace").strip(), flags=re.MULTILINE
                )
                last = said.rpartition("\n")[2]
                how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
                ended = ProcessEnded(f"process {rank + 1} of {self.size} {how}{f': {last}' if last else ''}")
                if said:
                    ended.add_note(said)
                return ended
        return None

    @contextmanager
    def naming_the_dead(self) -> Iterator[None]:
        """Make an error in the body that says no more than that a connection was lost a `ProcessEnded`."""
        try:
            yield
        except Exception as error:
            # Between a closed connection and the end of who has closed it there is a moment.
            deadline = time.monotonic() + _MOMENT_SECONDS
            while _is_lost_connection(error) and self._others and time.monotonic() < deadline:
                if ended := self._ended():
                    raise ended from error
                time.sleep(0.05)
            raise

    def _watch(self, give_up: Callable[[str], None]) -> None:
        seen = 0.0
        while self._is_together:
            time.sleep(1)
            if seen and self._is_together and time.monotonic() - seen > _GRACE_SECONDS:
                give_up(str(self._ended()))
                self.end()
                os._exit(1)
            if not seen and any(process.poll() for process, _ in self._others):
                seen = time.monotonic()

    def dismiss(self) -> None:
        """Let the others leave, which they do when their part is done."""
        for process, _ in self._others:
            try:
                process.wait(_FAREWELL_SECONDS)
            except subprocess.TimeoutExpired:
                break
        self.end()

    def end(self) -> None:
        """End the others at once: they write nothing, so nothing is lost."""
        for process, output in self._others:
            process.kill()
            process.wait()
            output.close()
        self._others.clear()


@contextmanager
def leading(trainer: Mapping[str, Any]) -> Iterator[Team]:
    """The team of a run with the settings `trainer`; however the body ends, nobody is left behind."""
    with _threads_shared_out(processes_per_machine(trainer)):
        team = Team(trainer)
        try:
            yield team
            team.dismiss()
        finally:
            team.part()
            team.end()


def _start(place: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], IO[bytes]]:
    output = tempfile.TemporaryFile()  # noqa: SIM115  closed at its process's end
    # -P: nothing in the folder that the user works in is taken for a module of ours.
    command = [sys.executable, "-P", "-m", "attnframe.training.other_process"]
    process = subprocess.Popen(
        command, env={**os.environ, **place}, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
    )
    return process, output


def _is_lost_connection(error: Exception) -> bool:
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()


@contextmanager
def _threads_shared_out(processes: int) -> Iterator[None]:
    """Give each of `processes` on a machine its share of the cores, unless the user has chosen how many."""
    if processes == 1 or "OMP_NUM_THREADS" in os.environ:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before // processes))
    os.environ["OMP_NUM_THREADS"] = str(torch.get_num_threads())
    try:
        yield
    finally:
        torch.set_num_threads(before)
        del os.environ["OMP_NUM_THREADS"]
