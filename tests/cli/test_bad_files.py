"""More than a hundred files that are no sentence pairs: each gives one sentence with the place, and exit code 2."""

from __future__ import annotations

import gzip
import itertools
import json
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_fixtures import home, train  # noqa: F401
from command_line import PreparedCommand

from attnframe.data.sources import load_corpus
from attnframe.errors import UserError

LINES = 53
MIDDLE = 29
POSITIONS = (1, MIDDLE, LINES)

SETTINGS = (
    "logger=none",
    "model.d_model=32",
    "model.num_heads=2",
    "model.d_ff=64",
    "trainer.max_steps=2",
    "trainer.enable_progress_bar=false",
)

Maker = Callable[[Path], list[str]]
"""Makes files in a folder and returns the settings that use them."""


class Case:
    """A way to be bad, and what the sentence must say."""

    def __init__(self, name: str, make: Maker, *said: str) -> None:
        self.name = name
        self.make = make
        self.said = said


def good(columns: int = 2) -> list[bytes]:
    return [b"\t".join((f"the cat {i}.".encode(), f"l'été {i}.".encode(), b"0-0 1?1")[:columns]) for i in range(LINES)]


def joined(lines: list[bytes]) -> bytes:
    return b"\n".join(lines) + b"\n"


def file_of(content: bytes, name: str = "pairs.tsv", *more: str) -> Maker:
    def make(folder: Path) -> list[str]:
        (folder / name).write_bytes(content)
        return [f"data.path={name}", *more]

    return make


def with_line(line: bytes, position: int, columns: int = 2) -> bytes:
    lines = good(columns)
    lines[position - 1] = line
    return joined(lines)


def bad_lines() -> Iterator[Case]:
    """One line of an otherwise good file."""
    lines = {
        "1 column": (2, b"the cat and l'ete", "1 column "),
        "3 columns": (2, b"the cat\tle chat\t0-0", "3 columns "),
        "4 columns": (2, b"the cat\tle chat\t0-0\tx", "4 columns "),
        "97 columns": (2, b"\t".join([b"x"] * 97), "97 columns "),
        "2 columns": (3, b"the cat\tle chat", "2 columns "),
        "latin-1": (2, "the cat\tl'été".encode("latin-1"), "0xe9 is not UTF-8"),
        "latin-1 in column 5": (2, b"a\tb\tc\td\t\xe9", "0xe9 is not UTF-8"),
        "windows-1252": (2, "the cat\tle “chat”".encode("cp1252"), "0x93 is not UTF-8"),
        "cut UTF-8": (2, "the cat\tété".encode()[:-1], "0xc3 is not UTF-8"),
        "NUL": (2, b"the\0cat\tle chat", "NUL"),
        "10 MB": (2, b"the cat\t" + b"chat " * 2_000_000, "longer than 1000000 bytes"),
        "10 MB without a column": (2, b"x" * 10_000_000, "longer than 1000000 bytes"),
        "no links": (3, b"the cat\tle chat\tCC-BY 2.0", "'CC-BY' is no link"),
        "links of another format": (3, b"the cat\tle chat\t0:0 1:1", "'0:0' is no link"),
        "a negative link": (3, b"the cat\tle chat\t0-0 -1-0", "'-1-0' is no link"),
        "links from 1": (3, b"the cat\tle chat\t1-1 2-2", "'2-2' points outside"),
        "a link outside the target": (3, b"the cat\tle chat\t0-0 1?7", "'1?7' points outside"),
        "a huge link": (3, b"the cat\tle chat\t0-0 1-" + b"9" * 999, "is no link"),
    }
    for (name, (columns, line, said)), position in itertools.product(lines.items(), POSITIONS):
        if position == 1 and name in ("2 columns", "3 columns"):
            continue  # then it is the second line that has another number
        content = with_line(line, position, columns)
        yield Case(f"{name} in line {position}", file_of(content), f"pairs.tsv, line {position}: ", said)
    for columns in (2, 3):
        other = 5 - columns
        content = joined(good(columns)[:1] + good(other)[1:])
        said = f"{other} columns instead of the {columns}"
        yield Case(f"{columns} columns in line 1", file_of(content), "pairs.tsv, line 2: ", said)
    packed = gzip.compress(with_line(b"chat " * 2_000_000, MIDDLE))
    yield Case("10 MB, packed", file_of(packed, "pairs.tsv.gz"), f"pairs.tsv.gz, line {MIDDLE}: ", "longer than")


def bad_wholes() -> Iterator[Case]:
    """Files of which no line is good, or not enough of them."""
    text = joined(good()).decode()
    for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32"):
        yield Case(encoding, file_of(text.encode(encoding)), "pairs.tsv, line 1: ", "UTF-8")
    empties = {
        "nothing": b"",
        "one line end": b"\n",
        "blank": b" \n" * 1009,
        "tabs": b"\t\n\t\t\n",
        "BOM": b"\xef\xbb\xbf",
    }
    for name, content in empties.items():
        yield Case(name, file_of(content), "pairs.tsv: ", "no pair of sentences")
        yield Case(f"{name}, packed", file_of(gzip.compress(content), "pairs.gz"), "pairs.gz: ", "no pair of sentences")
    yield Case("no bytes, named .gz", file_of(b"", "pairs.gz"), "pairs.gz: ", "no pair of sentences")
    header = b"source\ttarget\n"
    yield Case("only a header", file_of(header), "pairs.tsv: ", "1 pair ", "at least 3")
    yield Case("two pairs", file_of(joined(good()[:2])), "pairs.tsv: ", "2 pairs ", "at least 3")
    yield Case("one pair 53 times", file_of(joined(good()[:1] * LINES)), "pairs.tsv: ", "1 pair ", "at least 3")
    yield Case("one source", file_of(b"".join(b"a\tb %d\n" % i for i in range(LINES))), "1 source sentence", "53 pairs")
    sizes = ("data.val_size=20", "data.test_size=33")
    yield Case("no pair to train on", file_of(joined(good()), "pairs.tsv", *sizes), "pairs.tsv: ", "at least 54")
    skip = "data.bad_lines=skip"
    yield Case("all bad", file_of(b"x\n" * 97, "pairs.tsv", skip), "pairs.tsv: ", "97 lines", "line 1: 1 column")
    yield Case("all too long", file_of(joined(good()), "pairs.tsv", "data.max_length=1"), "pairs.tsv: ", "53 lines")
    yield Case("Tatoeba, too few", file_of(joined(good()), "fra.txt", "data=tatoeba"), "fra.txt: ", "at least 4001")
    latin = file_of(with_line(b"\xe9\tx", MIDDLE), "fra.txt", "data=tatoeba")
    yield Case("Tatoeba, latin-1", latin, f"fra.txt, line {MIDDLE}: ", "0xe9")


def bad_packings() -> Iterator[Case]:
    """What is named .gz or .zip and cannot be unpacked."""
    rng = random.Random(0)
    plain = joined([b"%d\t" % i + rng.randbytes(30).hex().encode() for i in range(1009)])
    packed = gzip.compress(plain)
    damaged = "damaged or cut off"
    for kept in (2, 10, len(packed) // 10, len(packed) // 2, len(packed) - 8, len(packed) - 1):
        yield Case(f"gzip cut to {kept}", file_of(packed[:kept], "p.tsv.gz"), "p.tsv.gz: ", damaged)
    skip = "data.bad_lines=skip"
    cut = file_of(packed[: len(packed) // 2], "p.tsv.gz", skip)
    yield Case("gzip cut, bad lines skipped", cut, "p.tsv.gz: ", damaged)
    for size in (1, 97, 10_007):
        yield Case(f"{size} random bytes as gzip", file_of(rng.randbytes(size), "p.gz"), "p.gz: ", damaged)
        yield Case(f"{size} random bytes as zip", file_of(rng.randbytes(size), "p.zip"), "p.zip: ", damaged)
        garbage = gzip.compress(b"\xff" + rng.randbytes(size))
        yield Case(f"gzip of {size} random bytes", file_of(garbage, "p.gz"), "p.gz, line 1: ", "UTF-8")
    for place in (len(packed) // 3, len(packed) // 2, len(packed) - 6):
        flipped = packed[:place] + bytes([packed[place] ^ 0x55]) + packed[place + 1 :]
        yield Case(f"gzip with another byte at {place}", file_of(flipped, "p.gz"), "p.gz")
    yield Case("text as gzip", file_of(plain, "p.tsv.gz"), "p.tsv.gz: ", damaged)
    yield Case("text as zip", file_of(plain, "p.zip"), "p.zip: ", damaged)
    yield Case("gzip, then garbage", file_of(packed + b"garbage", "p.gz"), "p.gz: ", damaged)
    yield Case("gzip without its name", file_of(packed, "p.tsv"), "p.tsv, line 1: ")

    for fraction in (0.02, 0.5, 0.99):
        yield Case(f"zip cut to {fraction}", zipped({"fra.txt": plain}, fraction), "p.zip: ", damaged)
    yield Case("zip without files", zipped({}), "p.zip: ", "holds none")
    yield Case("zip without text", zipped({"a.csv": plain, "_about.txt": plain}), "p.zip: ", "holds none")
    yield Case("zip with two texts", zipped({"a.txt": plain, "b/c.tsv": plain}), "p.zip: ", "2 (a.txt, b/c.tsv)")
    yield Case("zip with another byte", zipped({"fra.txt": plain}, flip=True), "p.zip: ", damaged)
    yield Case("zip of an empty text", zipped({"fra.txt": b""}), "p.zip: ", "no pair of sentences")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        yield Case(f"zip of method {method}", zipped({"fra.txt": plain}, method=method), "p.zip: ", "deflate")
    bad = zipped({"fra.txt": with_line(b"x\0\ty", MIDDLE)})
    yield Case("zip with a bad line", bad, f"p.zip, line {MIDDLE}: ", "NUL")


def zipped(
    members: dict[str, bytes], fraction: float = 1.0, *, flip: bool = False, method: int = zipfile.ZIP_STORED
) -> Maker:
    def make(folder: Path) -> list[str]:
        file = folder / "p.zip"
        with zipfile.ZipFile(file, "w", method) as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        content = bytearray(file.read_bytes())
        if flip:
            content[len(content) // 2] ^= 1
        file.write_bytes(content[: round(fraction * len(content))])
        return ["data.path=p.zip"]

    return make


def bad_pairs_of_files() -> Iterator[Case]:
    """Files that should belong together line by line."""
    source, target, links = (b"a b\n" * LINES, b"c d\n" * LINES, b"0-0\n" * LINES)
    for missing in (1, 7, LINES):
        shorter = target[: 4 * (LINES - missing)]
        said = f"fr.txt has {LINES - missing}"
        yield Case(f"target without {missing} lines", in_files(source, shorter), "en.txt has 53", said)
        yield Case(f"source without {missing} lines", in_files(shorter, target), "fr.txt has 53")
        yield Case(f"links without {missing} lines", in_files(source, target, shorter), "links.txt has")
    for position in POSITIONS:
        for index, name in enumerate(("en.txt", "fr.txt", "links.txt")):
            contents = [source, target, links]
            lines = contents[index].splitlines()
            lines[position - 1] = b"\xff"
            contents[index] = joined(lines)
            said = f"{name}, line {position}: "
            yield Case(f"latin-1 in line {position} of {name}", in_files(*contents), said, "0xff")
        lines = links.splitlines()
        lines[position - 1] = b"0-0 2-0"
        wrong = in_files(source, target, joined(lines))
        yield Case(f"wrong link in line {position}", wrong, f"links.txt, line {position}: ", "'2-0' points outside")
    cut = in_files(source, gzip.compress(target)[:-3], target_name="fr.gz")
    yield Case("target cut off", cut, "fr.gz: ", "damaged or cut off")
    missing_file = in_files(source, target, more=("data.target_path=fr.text",))
    yield Case("target missing", missing_file, "fr.text: ", "did you mean 'fr.txt'")


def in_files(
    source: bytes, target: bytes, links: bytes | None = None, target_name: str = "fr.txt", more: tuple[str, ...] = ()
) -> Maker:
    def make(folder: Path) -> list[str]:
        (folder / "en.txt").write_bytes(source)
        (folder / target_name).write_bytes(target)
        chosen = ["data.source_path=en.txt", f"data.target_path={target_name}"]
        if links is not None:
            (folder / "links.txt").write_bytes(links)
            chosen.append("data.alignment_path=links.txt")
        return [*chosen, *more]

    return make


def bad_places() -> Iterator[Case]:
    """Where no file is."""

    def folders(folder: Path) -> list[str]:
        (folder / "mine.gz").mkdir()
        return ["data.path=mine.gz"]

    near = file_of(joined(good()), "pairs.tsv", "data.path=pears.tsv")
    yield Case("missing", near, "pears.tsv: ", "did you mean 'pairs.tsv'")
    for path in ("nowhere/pairs.tsv", "/nowhere/at/all.tsv"):
        yield Case(path, lambda _, path=path: [f"data.path={path}"], f"{path}: ", "no folder")  # type: ignore[misc]
    yield Case("a folder", folders, "mine.gz: ", "is a folder")
    yield Case("this folder", lambda _: ["data.path=."], ": is a folder", "a folder")
    yield Case("a device", lambda _: ["data.path=/dev/zero"], "/dev/zero: ", "no regular file")
    yield Case("a long name", lambda _: ["data.path=" + "x" * 999], "cannot be read", "name too long")
    yield Case("Tatoeba, missing", lambda _: ["data=tatoeba", "data.path=fra.txt"], "fra.txt: ", "no such file")
    address = "http://127.0.0.1:1/fra-eng.zip"
    offline = ["data=tatoeba", f"data.url={address}"]
    yield Case("Tatoeba, offline", lambda _: offline, address, "data.path=FILE")


CASES = [*bad_lines(), *bad_wholes(), *bad_packings(), *bad_pairs_of_files(), *bad_places()]
FAST = ("latin-1 in line 29", "Tatoeba, offline")


def test_there_are_a_hundred_of_them() -> None:
    assert len({case.name for case in CASES}) == len(CASES) >= 100


def check(case: Case, sentence: str, cache: Path) -> None:
    assert "\n" not in sentence
    for part in case.said:
        assert part in sentence
    assert len(sentence) < 1500
    assert [path for path in cache.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_one_sentence_with_the_place(case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    chosen = dict(item.split("=", 1) for item in ["data=parallel_file", *case.make(tmp_path)])
    source = chosen.pop("data")
    options = {key.removeprefix("data."): int(value) if value.isdigit() else value for key, value in chosen.items()}
    with pytest.raises(UserError) as refused:
        load_corpus(source, **options)
    check(case, str(refused.value), tmp_path / "cache")


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=() if case.name in FAST else pytest.mark.slow, id=case.name) for case in CASES],
)
def test_the_command_says_so_and_nothing_else(train: PreparedCommand, tmp_path: Path, case: Case) -> None:  # noqa: F811
    work, cache = tmp_path / "work", tmp_path / "cache"
    work.mkdir()
    chosen = case.make(work)
    data = [] if "data=tatoeba" in chosen else ["data=parallel_file"]
    finished = train("train", *data, *chosen, *SETTINGS, cwd=work, env={"XDG_CACHE_HOME": str(cache)})
    assert finished.status == 2, finished.stderr
    (sentence,) = finished.stderr.splitlines()
    assert sentence.startswith("attnframe train: ")
    check(case, sentence, cache)
    assert "Traceback" not in finished.stdout
    (error,) = work.glob("outputs/*/*/error.txt")
    assert error.read_text().strip() == sentence.removeprefix("attnframe train: ")
    assert (error.parent / "FAILED").exists()


def test_skipped_lines_are_in_the_log_and_the_manifest(train: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    content = with_line(b"the \xe9", MIDDLE, columns=3) + b"\n" + b"the dog.\tle chien.\t\n"
    (tmp_path / "pairs.tsv.gz").write_bytes(gzip.compress(content))
    chosen = ["data=parallel_file", "data.path=pairs.tsv.gz", "data.bad_lines=skip", "callbacks.patterns.sentences=1"]
    finished = train("train", *chosen, *SETTINGS, cwd=tmp_path)
    assert finished.status == 0, finished.stderr
    (run,) = tmp_path.glob("outputs/parallel_file-multi_head/*/")
    log = (run / "train.log").read_text()
    assert f"pairs.tsv.gz: left out 1 line ({MIDDLE}) malformed; {tmp_path}/pairs.tsv.gz, line {MIDDLE}: byte" in log
    assert f"pairs.tsv.gz: left out 1 line ({LINES + 1}) with an empty side" in log
    data = json.loads((run / "manifest.json").read_text())["data"]
    assert data["path"] == str(tmp_path / "pairs.tsv.gz")
    assert data["lines_left_out"] == {"malformed": 1, "empty": 1, "too_long": 0}
    assert data["sizes"] == {"train": LINES - 10, "val": 5, "test": 5}
    assert 0 <= json.loads((run / "results.json").read_text())["test/aer"] <= 1


@pytest.mark.slow
def test_a_test_set_alone_cannot_be_trained_on(train: PreparedCommand, tmp_path: Path) -> None:  # noqa: F811
    (tmp_path / "pairs.tsv").write_bytes(joined(good()))
    chosen = ["data=parallel_file", "data.path=pairs.tsv", "data.use=test"]
    finished = train("train", *chosen, *SETTINGS, cwd=tmp_path)
    assert finished.status == 2
    (sentence,) = finished.stderr.splitlines()
    assert "data=parallel_file" in sentence
    assert "data.use=test" in sentence
