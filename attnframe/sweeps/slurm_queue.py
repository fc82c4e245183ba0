"""Slurm without accounting: what became of a job is asked of the queue."""

from __future__ import annotations

import shutil
import subprocess

_SECONDS_BETWEEN_LOOKS = 10


def watch_the_queue() -> None:
    """Let submitit look at `squeue` where the cluster keeps no accounts.

    submitit asks `sacct` alone. Where that knows nothing, a job whose worker has died is never over for it, and a sweep
    would wait for ever. Changes nothing where `sacct` answers.
    """
    if shutil.which("squeue") is None or _answers(["sacct", "-n", "-X"]):
        return
    from submitit.core.core import InfoWatcher
    from submitit.slurm.slurm import SlurmJob

    class QueueWatcher(InfoWatcher):
        """What is in the queue is pending or runs; what is there no more is over, well or not."""

        def _make_command(self) -> list[str]:
            return ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T"]

        def read_info(self, string: bytes | str) -> dict[str, dict[str, str]]:
            text = string if isinstance(string, str) else string.decode()
            there = dict(line.split("|", 1) for line in text.splitlines() if "|" in line)
            return {job: {"State": there.get(job, "COMPLETED")} for job in self._registered}

        def get_state(self, job_id: str, mode: str = "standard") -> str:
            return self.get_info(job_id, mode=mode).get("State") or "UNKNOWN"

    # A sibling of its own watcher, and all that is asked of one.
    SlurmJob.watcher = QueueWatcher(delay_s=_SECONDS_BETWEEN_LOOKS)  # type: ignore[assignment]


def _answers(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=20, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
