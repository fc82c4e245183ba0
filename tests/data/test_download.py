"""Downloads from a server on this machine: cut, resumed, refused, and never left half-made."""

from __future__ import annotations

import io
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from attnframe.data import tatoeba
from attnframe.errors import UserError

ROWS = tatoeba.FEWEST_ROWS + 7


def export(rows: int = ROWS, name: str = "fra.txt", word: str = "Phrase") -> bytes:
    """A zip such as the real one. Stored, so that it has some size."""
    text = "".join(f"Sentence {i}.\t{word} {i}.\tCC-BY 2.0 #{i}\n" for i in range(rows))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("_about.txt", "About this file.\n")
        archive.writestr(name, text)
    return packed.getvalue()


class Server(ThreadingHTTPServer):
    """Serves `content` at every path; the ways in which it misbehaves are attributes."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = export()
        self.status = 200
        self.ranges = True
        self.wrong_range = False
        self.cut_after: int | None = None
        self.delay_seconds = 0.0
        self.requests: list[dict[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/anki/fra-eng.zip"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.requests.append(dict(self.headers))
        time.sleep(server.delay_seconds)
        start = 0
        wanted = self.headers.get("Range")
        if server.status != 200:
            self.send_error(server.status)
            return
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(server.content):
                self.send_error(416)
                return
            if server.wrong_range:
                start = 0
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
        else:
            self.send_response(200)
        body = server.content[start:]
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if server.cut_after is None else body[: server.cut_after])

    def log_message(self, format: str, *args: object) -> None:
        """Silence."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache" / "attnframe"


def load(url: str) -> tatoeba.Corpus:
    return tatoeba.load(url=url, val_size=11, test_size=13)


def files(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def test_the_second_time_the_network_is_left_alone(server: Server, cache: Path) -> None:
    first = load(server.url)
    (file,) = files(cache)
    assert file.read_bytes() == server.content
    assert {name: len(pairs) for name, pairs in first.sets.items()} == {"train": ROWS - 24, "val": 11, "test": 13}
    assert first.description["path"] == str(file)
    assert first.description["url"] == server.url
    server.status = 500
    assert load(server.url).hash() == first.hash()
    assert len(server.requests) == 1
    assert "Mozilla" in server.requests[0]["User-Agent"]
    assert "attnframe" in server.requests[0]["User-Agent"]


def test_addresses_that_end_alike_are_two_files(server: Server, cache: Path) -> None:
    load(server.url)
    load(server.url + "?other")
    assert len(files(cache)) == 2


def test_a_cut_download_is_gone_on_with(server: Server, cache: Path) -> None:
    server.cut_after = 100_003
    with pytest.raises(UserError, match=r"broke after 100003 of \d+ bytes; the same command goes on"):
        load(server.url)
    (partial,) = files(cache)
    assert partial.name.endswith(".partial")
    with pytest.raises(UserError, match="broke after 200006"):
        load(server.url)
    server.cut_after = None
    load(server.url)
    assert [request.get("Range") for request in server.requests] == [None, "bytes=100003-", "bytes=200006-"]
    (file,) = files(cache)
    assert file.read_bytes() == server.content


@pytest.mark.parametrize("way", ["ignores", "another place", "cannot satisfy"])
def test_a_server_that_does_not_go_on_in_the_middle(server: Server, cache: Path, way: str) -> None:
    server.cut_after = 100_003
    with pytest.raises(UserError, match="broke"):
        load(server.url)
    server.cut_after = None
    server.ranges = way != "ignores"
    server.wrong_range = way == "another place"
    if way == "cannot satisfy":
        (partial,) = files(cache)
        partial.write_bytes(server.content + b"more")
    load(server.url)
    (file,) = files(cache)
    assert file.read_bytes() == server.content


def test_a_file_that_changed_while_it_was_cut_is_thrown_away(server: Server, cache: Path) -> None:
    server.cut_after = 100_003
    with pytest.raises(UserError, match="broke"):
        load(server.url)
    server.cut_after = None
    server.content = export(word="Parole")
    with pytest.raises(UserError, match="not what it should be"):
        load(server.url)
    assert files(cache) == []
    load(server.url)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"<!DOCTYPE html><html><body>Please enable JavaScript.</body></html>", "damaged or cut off"),
        (b"", "damaged or cut off"),
        (export()[:-7], "damaged or cut off"),
        (export()[:200_000] + b"x" * 1000 + export()[201_000:], "damaged or cut off"),
        (export(name="readme.md"), "this one holds none"),
        (export(name="_fra.txt"), "this one holds none"),
        (export(rows=997), "997 rows"),
    ],
    ids=["HTML", "nothing", "cut", "changed bytes", "no text", "only notes", "too few rows"],
)
def test_what_is_no_export_is_not_kept(server: Server, cache: Path, content: bytes, said: str) -> None:
    server.content = content
    with pytest.raises(UserError, match=said) as refused:
        load(server.url)
    for part in (server.url, "data.path=FILE"):
        assert part in str(refused.value)
    assert "\n" not in str(refused.value)
    assert files(cache) == []
    server.content = export()
    load(server.url)


@pytest.mark.parametrize("status", [403, 404, 416, 500])
def test_an_error_of_the_server(server: Server, cache: Path, status: int) -> None:
    server.status = status
    with pytest.raises(UserError, match=str(status)) as refused:
        load(server.url)
    for part in (server.url, "data.path=FILE"):
        assert part in str(refused.value)
    assert files(cache) == []


def test_nobody_answers(cache: Path) -> None:
    with Server() as gone:
        url = gone.url
    with pytest.raises(UserError, match="refused") as refused:
        load(url)
    for part in (url, "data.path=FILE"):
        assert part in str(refused.value)
    assert files(cache) == []


@pytest.mark.parametrize("url", ["ftp://a.b/c.zip", "file:///etc/passwd", "fra-eng.zip", "http://", "http://[", ""])
def test_what_is_no_address(cache: Path, url: str) -> None:
    with pytest.raises(UserError, match=r"data\.url=") as refused:
        load(url)
    assert "data.path=FILE" in str(refused.value)
    assert files(cache) == []


def test_a_cache_that_cannot_be_written(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"data\.path=FILE") as refused:
        load(server.url)
    assert str(tmp_path / "file") in str(refused.value)


def test_without_a_set_cache_it_is_in_the_home(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    load(server.url)
    assert len(files(tmp_path / ".cache" / "attnframe")) == 1


def test_of_several_at_once_one_downloads_and_the_others_wait(server: Server, cache: Path) -> None:
    server.delay_seconds = 0.2
    hashes: list[str] = []
    threads = [threading.Thread(target=lambda: hashes.append(load(server.url).hash())) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.requests) == 1
    assert len(hashes) == 5
    assert len(set(hashes)) == 1
    assert len(files(cache)) == 1
