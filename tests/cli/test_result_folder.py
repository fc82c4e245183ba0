"""A folder of results is there in full or not at all, and what was there before stays until then."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from attnframe import UserError
from attnframe.cli.result_folder import written_as_a_whole


@pytest.fixture(autouse=True)
def _launched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATTNFRAME_LAUNCH", "now")


def contents(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def test_it_takes_its_name_at_the_end(tmp_path: Path) -> None:
    place = tmp_path / "eval" / "today"
    with written_as_a_whole(place) as folder:
        (folder / "a.txt").write_text("new")
        assert not place.exists()
    assert contents(tmp_path) == {"eval/today/a.txt": "new"}
    assert list(place.parent.iterdir()) == [place]


def test_it_replaces_all_that_was_there(tmp_path: Path) -> None:
    place = tmp_path / "ablation"
    place.mkdir()
    (place / "old.txt").write_text("old")
    with written_as_a_whole(place) as folder:
        (folder / "a.txt").write_text("new")
        assert contents(place) == {"old.txt": "old"}
    assert contents(tmp_path) == {"ablation/a.txt": "new"}
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("no"), BrokenPipeError()])
def test_what_fails_leaves_what_was_there(tmp_path: Path, error: BaseException) -> None:
    place = tmp_path / "ablation"
    place.mkdir()
    (place / "old.txt").write_text("old")

    def fail() -> None:
        with written_as_a_whole(place) as folder:
            (folder / "a.txt").write_text("new")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert contents(tmp_path) == {"ablation/old.txt": "old"}
    assert list(tmp_path.iterdir()) == [place]


def test_what_fails_the_first_time_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with written_as_a_whole(tmp_path / "eval" / "today"):
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    place = tmp_path / "ablation"
    place.mkdir()

    def fail() -> None:
        with written_as_a_whole(place):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(UserError, match=r"ablation cannot be written: No space left on device$"):
        fail()
    assert list(tmp_path.iterdir()) == [place]


def test_a_rename_that_fails_puts_back_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "ablation"
    place.mkdir()
    (place / "old.txt").write_text("old")
    rename = Path.rename

    def fails_for_the_new_one(self: Path, target: Path) -> Path:
        if self.suffix == ".partial":
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fails_for_the_new_one)

    def fail() -> None:
        with written_as_a_whole(place) as folder:
            (folder / "a.txt").write_text("new")

    with pytest.raises(UserError, match="Input/output error"):
        fail()
    assert contents(tmp_path) == {"ablation/old.txt": "old"}
    assert list(tmp_path.iterdir()) == [place]


def test_a_place_where_nothing_can_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    def fail() -> None:
        with written_as_a_whole(tmp_path / "file" / "ablation"):
            raise AssertionError

    with pytest.raises(UserError, match="ablation cannot be written: Not a directory"):
        fail()
