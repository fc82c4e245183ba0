from __future__ import annotations

import gzip
import logging
import unicodedata
import zipfile
from pathlib import Path

import pytest

from attnframe.data.lines import LONGEST_LINE, count_lines, read_lines
from attnframe.data.pair_files import PairsRead, ReadingRules, read_aligned_files, read_columns
from attnframe.data.splitting import TextPair
from attnframe.data.words import split_words
from attnframe.errors import UserError

STRICT = ReadingRules()
SKIP = ReadingRules(bad_lines="skip")


def written(tmp_path: Path, content: bytes, name: str = "pairs.tsv") -> Path:
    file = tmp_path / name
    file.write_bytes(content)
    return file


def read(
    tmp_path: Path,
    content: bytes,
    rules: ReadingRules = STRICT,
    *,
    links: bool = True,
) -> PairsRead:
    return read_columns(written(tmp_path, content), rules, links=links)


def texts(found: PairsRead) -> list[tuple[str, str]]:
    return [(pair.source, pair.target) for pair in found.pairs]


@pytest.mark.parametrize(
    "content",
    [
        "a b\tc d\ne\tf\n",
        "a b\tc d\ne\tf",
        "a b\tc d\r\ne\tf\r\n",
        "\ufeffa b\tc d\ne\tf\n",
        "  a  b \t c\u00a0d\ne\t\u2003f \n",
        "\n a b\tc d\n\t\n \t \ne\tf\n\n",
    ],
    ids=["plain", "no last line end", "CRLF", "BOM", "white space", "empty lines"],
)
def test_the_same_pairs_however_they_are_written(tmp_path: Path, content: str) -> None:
    assert texts(read(tmp_path, content.encode())) == [("a b", "c d"), ("e", "f")]


def test_packed_or_not_the_lines_are_the_same(tmp_path: Path) -> None:
    content = "".join(f"l'été {i}\tsummer {i}\n" for i in range(97)).encode()
    files = [
        written(tmp_path, content, "a.tsv"),
        written(tmp_path, gzip.compress(content), "a.tsv.gz"),
        written(tmp_path, gzip.compress(content[:500]) + gzip.compress(content[500:]), "b.GZ"),
        tmp_path / "a.zip",
    ]
    with zipfile.ZipFile(files[-1], "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("_about.txt", "notes")
        archive.writestr("__MACOSX/._fra.txt", "notes")
        archive.writestr("folder/fra.txt", content)
    for file in files:
        assert list(read_lines(file)) == content.splitlines()
        assert count_lines(file) == 97


def test_text_becomes_nfc(tmp_path: Path) -> None:
    composed = "É l'été"
    (pair,) = read(tmp_path, unicodedata.normalize("NFD", f"{composed}\tx\n").encode()).pairs
    assert pair.source == composed
    assert unicodedata.is_normalized("NFC", pair.source)


def test_the_first_line_is_data(tmp_path: Path) -> None:
    assert texts(read(tmp_path, b"source\ttarget\na\tb\n"))[0] == ("source", "target")


def test_what_is_left_out_is_counted_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    lines = [
        b"a\tb",
        b"one column",
        b"\xe9t\xe9\tsummer",
        b"\tb",
        b"a\t ",
        b"",
        b"a b c d\tx",
        b"x\ta, b c",
        b"a\0\tb",
        b"a\tb\tc\td",
        b"a" * (LONGEST_LINE + 1) + b"\tb",
        b"c\td",
    ]
    rules = ReadingRules(max_length=3, bad_lines="skip")
    with caplog.at_level(logging.INFO, logger="attnframe"):
        found = read(tmp_path, b"\n".join(lines), rules)
    assert texts(found) == [("a", "b"), ("c", "d")]
    assert (found.malformed, found.empty, found.too_long) == ([2, 3, 9, 10, 11], [4, 5, 6], [7, 8])
    assert found.counts() == {"lines_read": 12, "lines_left_out": {"malformed": 5, "empty": 3, "too_long": 2}}
    said = {record.getMessage(): record.levelname for record in caplog.records}
    assert len(said) == 3
    (warning,) = (message for message, level in said.items() if level == "WARNING")
    assert "5 lines (2, 3, 9, 10, 11)" in warning
    assert "line 2: 1 column instead of 2" in warning
    assert any("3 lines (4, 5, 6)" in message and "empty" in message for message in said)
    assert any("2 lines (7, 8)" in message and "more than 3 words" in message for message in said)
    assert all(str(tmp_path / "pairs.tsv") in message for message in said)


def test_only_twenty_lines_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="attnframe"):
        found = read(tmp_path, b"a\tb\n" + b"bad\n" * 1009, SKIP)
    assert len(found.malformed) == 1009
    (record,) = caplog.records
    assert "1009 lines" in record.getMessage()
    assert "20, 21, ..." in record.getMessage()
    assert "22" not in record.getMessage()


def test_length_is_counted_in_words_on_both_sides(tmp_path: Path) -> None:
    content = b"l'homme n'a pas vu\tx\nx\tl'homme n'a pas vu\nx y z\tx\n"
    assert len(split_words("l'homme n'a pas vu")) == 6
    assert len(read(tmp_path, content, ReadingRules(max_length=6)).pairs) == 3
    assert texts(read(tmp_path, content, ReadingRules(max_length=5))) == [("x y z", "x")]
    assert len(read(tmp_path, content, ReadingRules(max_length=None)).pairs) == 3


@pytest.mark.parametrize("size", [LONGEST_LINE - 7, LONGEST_LINE, LONGEST_LINE + 1, LONGEST_LINE + 3, 3_000_017])
@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_may_have_so_many_bytes_and_no_more(tmp_path: Path, size: int, end: bytes) -> None:
    file = written(tmp_path, b"first\n" + b"x" * size + end + (b"last\n" if end else b""))
    lines = list(read_lines(file))
    assert lines[0] == b"first"
    assert lines[1] == (b"x" * size if size <= LONGEST_LINE else None)
    assert lines[2:] == ([b"last"] if end else [])


def test_the_third_column_holds_links_or_is_read_over(tmp_path: Path) -> None:
    (pair,) = read(tmp_path, b"a b\tc d\t0-1 1?0\n").pairs
    assert pair.alignment is not None
    assert (pair.alignment.sure, pair.alignment.possible) == ({(0, 1)}, {(0, 1), (1, 0)})
    found = read(tmp_path, b"a\tb\nc\td\tCC-BY 2.0 #1 (me)\ne\tf\t\n", links=False)
    assert found.pairs == [TextPair("a", "b"), TextPair("c", "d"), TextPair("e", "f")]
    empty = read(tmp_path, b"a\tb\t0-0\nc\td\t\n").pairs
    assert [pair.alignment is not None for pair in empty] == [True, True]


@pytest.mark.parametrize(("first", "other"), [(2, 3), (3, 2)])
def test_the_first_line_that_is_not_empty_decides_on_the_columns(tmp_path: Path, first: int, other: int) -> None:
    rows = {2: b"a\tb\n", 3: b"a\tb\t0-0\n"}
    content = b"\n\t\n" + rows[first] + rows[other] + rows[first]
    with pytest.raises(UserError, match=f"line 4: {other} columns instead of the {first}"):
        read(tmp_path, content)
    found = read(tmp_path, content, SKIP)
    assert (len(found.pairs), found.malformed) == (2, [4])


def test_files_line_by_line(tmp_path: Path) -> None:
    source = written(tmp_path, b"a b\n\nc\td\n", "en.txt")
    target = written(tmp_path, gzip.compress(b"x\ny\nz z"), "fr.txt.gz")
    links = written(tmp_path, b"1-0\n\n0?1 1-0\n", "links")
    found = read_aligned_files(source, target, links, STRICT)
    assert texts(found) == [("a b", "x"), ("c d", "z z")]
    assert found.empty == [2]
    last = found.pairs[-1].alignment
    assert last is not None
    assert (last.sure, last.possible) == ({(1, 0)}, {(0, 1), (1, 0)})
    assert read_aligned_files(source, target, None, STRICT).pairs[0].alignment is None


def test_files_of_different_length_are_refused_with_both_counts(tmp_path: Path) -> None:
    source = written(tmp_path, b"a\n" * 53, "en.txt")
    target = written(tmp_path, b"a\n" * 54, "fr.txt")
    with pytest.raises(UserError, match=r"en\.txt has 53, .*fr\.txt has 54"):
        read_aligned_files(source, target, None, SKIP)
    with pytest.raises(UserError, match=r"en\.txt has 53, .*en\.txt has 53, .*fr\.txt has 54"):
        read_aligned_files(source, source, target, SKIP)


@pytest.mark.parametrize("column", [0, 1, 2])
def test_a_bad_line_names_the_file_it_is_in(tmp_path: Path, column: int) -> None:
    contents = [b"a\n" * 5, b"b\n" * 5, b"0-0\n" * 5]
    contents[column] = b"0-0\n" * 3 + b"\xff\n" + b"0-0\n"
    files = [written(tmp_path, content, f"file_{index}") for index, content in enumerate(contents)]
    with pytest.raises(UserError, match=rf"file_{column}, line 4: byte 0xff is not UTF-8"):
        read_aligned_files(files[0], files[1], files[2], STRICT)


def test_nothing_to_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no pair of sentences") as refused:
        read(tmp_path, b"bad\n\nworse\n" + b"a b\tc\n" * 2, ReadingRules(max_length=1, bad_lines="skip"))
    for part in ("2 lines (1, 3) malformed", "1 line (2)", "2 lines (4, 5)", "line 1: 1 column"):
        assert part in str(refused.value)


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ({"max_length": 0}, "data.max_length=0"),
        ({"max_length": -5}, "data.max_length=-5"),
        ({"bad_lines": "skp"}, "did you mean 'skip'"),
    ],
)
def test_rules_that_make_no_sense(rules: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        ReadingRules(**rules)  # type: ignore[arg-type]
