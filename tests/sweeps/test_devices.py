"""GPUs are shared out one job each."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from attnframe.sweeps import devices


def test_nothing_is_shared_out_where_there_is_nothing_to_choose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert devices.take_gpu(0, tmp_path) is None
    assert devices.take_gpu(1, tmp_path) is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5")
    assert devices.take_gpu(3, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_each_process_has_one_of_its_own_until_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    context = multiprocessing.get_context("fork")
    processes = []
    taken: list[int] = []
    for _ in range(4):
        ours, theirs = context.Pipe()
        process = context.Process(target=_take, args=(tmp_path, theirs))
        process.start()
        taken.append(ours.recv())
        processes.append((process, ours))
    assert taken[:3] == [0, 1, 2]
    assert 0 <= taken[3] < 3, "a fourth process shares one"
    first, pipe = processes.pop(1)
    pipe.send("end")
    first.join(30)
    ours, theirs = context.Pipe()
    later = context.Process(target=_take, args=(tmp_path, theirs))
    later.start()
    assert ours.recv() == 1
    processes.append((later, ours))
    for process, pipe in processes:
        pipe.send("end")
        process.join(30)
        assert process.exitcode == 0


def _take(folder: Path, pipe: Connection) -> None:
    import os

    number = devices.take_gpu(3, folder)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == str(number)
    pipe.send(number)
    pipe.recv()
