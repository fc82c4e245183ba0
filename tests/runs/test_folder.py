from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from attnframe import UserError
from attnframe.runs.folder import MARKERS, RunFolder, write_whole

CLAIM = """
import sys
from pathlib import Path
from attnframe import UserError
from attnframe.runs.folder import RunFolder
print("ready", flush=True)
sys.stdin.readline()
try:
    RunFolder(Path(sys.argv[1])).claim()
except UserError:
    print("refused")
else:
    print("mine")
"""


def test_a_folder_is_claimed_once(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "new" / "run")
    folder.claim()
    assert folder.checkpoints.is_dir()
    for again in (folder, RunFolder(tmp_path / "new" / "run")):
        with pytest.raises(UserError, match="already holds a run"):
            again.claim()


def test_a_finished_run_is_not_claimed_and_not_touched(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.claim()
    folder.write_manifest({"seed": 3})
    folder.close("DONE")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    with pytest.raises(UserError):
        RunFolder(tmp_path).claim()
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert json.loads(folder.manifest.read_text()) == {"seed": 3}


def test_of_many_threads_one_claims(tmp_path: Path) -> None:
    for attempt in range(20):
        start = threading.Barrier(16)
        won: list[int] = []

        def claim(number: int, path: Path, start: threading.Barrier = start, won: list[int] = won) -> None:
            start.wait()
            try:
                RunFolder(path).claim()
            except UserError:
                return
            won.append(number)

        threads = [threading.Thread(target=claim, args=(n, tmp_path / str(attempt))) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1


def test_of_several_processes_one_claims(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, str(tmp_path / "run")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    said = sorted(process.communicate(timeout=30)[0].strip() for process in processes)
    assert said == ["mine", "refused", "refused", "refused"]


def test_json_is_there_in_full_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.write_json("results.json", {"seed": 1, "word": "été"})
    assert (tmp_path / "results.json").read_text(encoding="utf-8") == '{\n  "seed": 1,\n  "word": "été"\n}\n'
    with pytest.raises(TypeError):
        folder.write_json("results.json", {"seed": object()})
    assert json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))["seed"] == 1

    # A reader that opened the old file before the new one came reads the old one to its end.
    with (tmp_path / "results.json").open(encoding="utf-8") as opened:
        folder.write_json("results.json", {"seed": 2})
        assert json.load(opened)["seed"] == 1
    assert json.loads((tmp_path / "results.json").read_text())["seed"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]

    def crash(self: Path, target: Path) -> Path:
        raise OSError("the machine went down")

    monkeypatch.setattr(Path, "replace", crash)
    with pytest.raises(OSError, match="went down"):
        folder.write_json("results.json", {"seed": 3})
    assert json.loads((tmp_path / "results.json").read_text())["seed"] == 2


def test_a_table_has_one_line_a_row_whatever_is_in_it(tmp_path: Path) -> None:
    rows = [
        ("1", "a\tb", 'she said "no"'),
        ("2", "line\nbreak\r\n", "  spaces \x0b \u2028 and\u00a0more "),
        ("3", "", "back\\slash 'quote' , ; |"),
    ]
    RunFolder(tmp_path).write_table("predictions.tsv", ("id", "source", "text"), rows)
    content = (tmp_path / "predictions.tsv").read_bytes().decode("utf-8")
    assert "\r" not in content
    assert [line.split("\t") for line in content.removesuffix("\n").split("\n")] == [
        ["id", "source", "text"],
        ["1", "a b", 'she said "no"'],
        ["2", "line break", "spaces and more"],
        ["3", "", "back\\slash 'quote' , ; |"],
    ]
    assert content.splitlines() == content.removesuffix("\n").split("\n")
    with (tmp_path / "predictions.tsv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))) == 4


@pytest.mark.parametrize("marker", MARKERS)
def test_a_marker_is_an_empty_file_and_the_reason_comes_before_it(tmp_path: Path, marker: str) -> None:
    RunFolder(tmp_path).close(marker)
    assert os.listdir(tmp_path) == [marker]  # noqa: PTH208
    assert not (tmp_path / marker).read_text()
    RunFolder(tmp_path).close(marker, "why: été\n")
    assert (tmp_path / "error.txt").read_text(encoding="utf-8") == "why: été\n"


def test_a_full_disk_leaves_the_marker_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)

    def full(*_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    folder.close("FAILED", "the traceback")
    assert (tmp_path / "FAILED").exists()


HOLD = """
import sys, time
from pathlib import Path
from attnframe.runs.folder import RunFolder
with RunFolder(Path(sys.argv[1])).held():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_folder_is_held_until_its_process_is_gone(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=f"is still being run by process {holder.pid} on "),
            RunFolder(tmp_path).held(),
        ):
            pass
    finally:
        holder.kill()
        holder.communicate()
    with RunFolder(tmp_path).held():
        pass


def test_without_locks_a_folder_is_used_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A platform that has none, and a file system that has none."""
    with monkeypatch.context() as patch:
        patch.setattr("attnframe.runs.locking.fcntl", None)
        with RunFolder(tmp_path).held(), RunFolder(tmp_path).held():
            pass

    def unsupported(*_: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("attnframe.runs.locking.fcntl.flock", unsupported)
    with RunFolder(tmp_path).held(), RunFolder(tmp_path).held():
        pass


def test_a_folder_that_is_reopened_has_no_marker(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    assert folder.markers == []
    folder.close("FAILED", "the traceback")
    assert folder.markers == ["FAILED"]
    folder.reopen()
    assert folder.markers == []
    assert [file.name for file in tmp_path.iterdir()] == ["errors_before.txt"]
    folder.reopen()
    assert (tmp_path / "errors_before.txt").read_text(encoding="utf-8") == "the traceback"


def test_a_file_is_cut_after_whole_lines(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    file.write_bytes("step\r\n1,été\r\n2\r\n3,hal".encode())
    folder = RunFolder(tmp_path)
    assert folder.keep_lines("metrics.csv", 9) == 4
    assert folder.keep_lines("metrics.csv", 3) == 3
    assert file.read_bytes() == "step\r\n1,été\r\n2\r\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["metrics.csv"]


def test_of_two_who_write_a_file_none_fails_and_it_is_always_whole(tmp_path: Path) -> None:
    texts = ("a" * 9001, "b" * 7001)
    file = tmp_path / "job.json"
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(write_whole, file, texts[turn % 2]) for turn in range(400)]:
            done.result()
    assert file.read_text(encoding="utf-8") in texts
    assert [path.name for path in tmp_path.iterdir()] == ["job.json"]


def test_a_file_behind_a_link_is_written_whole_too(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for name, target in (("old", "there/old"), ("new", "there/new")):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "there" / "old").write_text("before", encoding="utf-8")
    for name in ("old", "new"):
        write_whole(tmp_path / name, "after\r\n")
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "there" / name).read_bytes() == b"after\r\n"
    assert sorted(file.name for file in (tmp_path / "there").iterdir()) == ["new", "old"]
