"""Sentence pairs of text files: in columns of one file, or line by line in a file for each language."""

from __future__ import annotations

import logging
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from attnframe.data.lines import LONGEST_LINE, count_lines, read_lines
from attnframe.data.pharaoh import read_alignment
from attnframe.data.splitting import TextPair
from attnframe.data.words import split_words
from attnframe.errors import UserError, did_you_mean

_log = logging.getLogger(__name__)

BAD_LINES = ("error", "skip")
_LINES_NAMED = 20

# A row is the columns of one line, or one line of each file; None stands for a line that is too long.
_Row = Sequence[bytes | None]


@dataclass(frozen=True)
class ReadingRules:
    """What to do with the lines of a file.

    `max_length` is in words of `split_words`, for each side, None for no limit. `bad_lines` says what a malformed line
    does: `error` refuses the file, `skip` leaves the line out. Raises `UserError` for other values.
    """

    max_length: int | None = None
    bad_lines: str = "error"

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < 1:
            raise UserError(f"data.max_length={self.max_length}: it must be 1 or more, or null for no limit")
        if self.bad_lines not in BAD_LINES:
            raise UserError(f"data.bad_lines={self.bad_lines}: {did_you_mean(self.bad_lines, BAD_LINES)}")


@dataclass
class PairsRead:
    """The pairs of a file in its order, and the numbers of the lines that were left out, by reason."""

    pairs: list[TextPair] = field(default_factory=list)
    lines: int = 0
    malformed: list[int] = field(default_factory=list)
    empty: list[int] = field(default_factory=list)
    too_long: list[int] = field(default_factory=list)
    first_problem: str = ""

    def counts(self) -> dict[str, object]:
        """Lines read and left out, for `Corpus.description`."""
        left_out = {"malformed": len(self.malformed), "empty": len(self.empty), "too_long": len(self.too_long)}
        return {"lines_read": self.lines, "lines_left_out": left_out}


class _BadLineError(Exception):
    """What is wrong with a row, and in which of its columns."""

    def __init__(self, reason: str, column: int = 0) -> None:
        super().__init__(reason)
        self.column = column


def read_columns(path: Path, rules: ReadingRules, *, links: bool) -> PairsRead:
    """Read a file with source and target in two tab-separated columns, perhaps with a third.

    With `links` the third column holds word links in Pharaoh format, and the first line that is not empty decides how
    many columns all have; without, it is read over and any line may have it. Raises `UserError` where the file cannot
    be read or holds no pair, and for the first malformed line if `rules` say so.
    """
    rows = ([None] if line is None else line.split(b"\t") for line in read_lines(path))
    return _Reader((path,), rules, links=links).read(rows)


def read_aligned_files(source: Path, target: Path, links: Path | None, rules: ReadingRules) -> PairsRead:
    """Read files whose lines belong together, `links` with word links in Pharaoh format.

    Raises `UserError` as `read_columns` does, and where the files differ in their number of lines.
    """
    files = (source, target) if links is None else (source, target, links)
    lengths = [count_lines(file) for file in files]
    if len(set(lengths)) > 1:
        counts = ", ".join(f"{file} has {length}" for file, length in zip(files, lengths, strict=True))
        raise UserError(f"files whose lines belong together must have the same number of lines: {counts}")
    rows = zip(*(read_lines(file) for file in files), strict=True)
    return _Reader(files, rules, links=links is not None).read(rows)


class _Reader:
    """`files` are the one file of all columns, or the file of each."""

    def __init__(self, files: Sequence[Path], rules: ReadingRules, *, links: bool) -> None:
        self._files = files
        self._rules = rules
        self._links = links
        self._columns: int | None = None

    def read(self, rows: Iterable[_Row]) -> PairsRead:
        found = PairsRead()
        for number, row in enumerate(rows, start=1):
            found.lines = number
            try:
                pair = self._pair(row)
            except _BadLineError as error:
                file = self._files[min(error.column, len(self._files) - 1)]
                problem = f"{file}, line {number}: {error}"
                if self._rules.bad_lines == "error":
                    raise UserError(f"{problem} (data.bad_lines=skip leaves such lines out)") from error
                found.malformed.append(number)
                found.first_problem = found.first_problem or problem
                continue
            if pair is None:
                found.empty.append(number)
            elif self._is_too_long(pair):
                found.too_long.append(number)
            else:
                found.pairs.append(pair)
        self._report(found)
        return found

    def _pair(self, row: _Row) -> TextPair | None:
        """The pair of a row; None where a side is empty."""
        texts = [_decoded(piece, column) for column, piece in enumerate(row)]
        if not any(texts):
            return None
        self._check_columns(len(texts))
        source, target, *rest = texts
        if not (source and target):
            return None
        if not (self._links and rest):
            return TextPair(source, target)
        try:
            return TextPair(source, target, read_alignment(rest[0], source, target))
        except ValueError as error:
            raise _BadLineError(str(error), column=2) from error

    def _check_columns(self, found: int) -> None:
        if found not in (2, 3):
            wanted = str(self._columns) if self._links and self._columns else "2 or 3"
            raise _BadLineError(
                f"{found} column{'s' * (found != 1)} instead of {wanted}: source, target and perhaps a third, with a "
                f"tab between"
            )
        if self._links and self._columns not in (None, found):
            raise _BadLineError(f"{found} columns instead of the {self._columns} of the lines before")
        self._columns = found

    def _is_too_long(self, pair: TextPair) -> bool:
        limit = self._rules.max_length
        # Counting spaces first keeps what is no sentence at all from the slower `split_words`.
        return limit is not None and any(
            text.count(" ") >= limit or len(split_words(text)) > limit for text in (pair.source, pair.target)
        )

    def _report(self, found: PairsRead) -> None:
        label = " and ".join(map(str, self._files[:2]))
        reasons = {
            "malformed": found.malformed,
            "with an empty side": found.empty,
            f"with more than {self._rules.max_length} words on a side": found.too_long,
        }
        left_out = [f"{_numbered(numbers)} {reason}" for reason, numbers in reasons.items() if numbers]
        if not found.pairs:
            why = "; ".join([*left_out, *filter(None, [found.first_problem])]) or "it is empty"
            raise UserError(f"{label}: holds no pair of sentences ({why})")
        for reason, numbers in reasons.items():
            if numbers:
                level = logging.WARNING if numbers is found.malformed else logging.INFO
                first = f"; {found.first_problem}" if numbers is found.malformed else ""
                _log.log(level, "%s: left out %s %s%s", label, _numbered(numbers), reason, first)


def _decoded(piece: bytes | None, column: int) -> str:
    """Text in NFC with single spaces."""
    if piece is None:
        raise _BadLineError(f"longer than {LONGEST_LINE} bytes", column)
    if b"\0" in piece:
        raise _BadLineError("holds a NUL character; is the file UTF-16? It must be UTF-8", column)
    try:
        text = piece.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _BadLineError(f"byte 0x{piece[error.start]:02x} is not UTF-8 text", column) from error
    return unicodedata.normalize("NFC", " ".join(text.split()))


def _numbered(numbers: Sequence[int]) -> str:
    """ "3 lines (2, 5, 11)", with the first twenty."""
    shown = ", ".join(map(str, numbers[:_LINES_NAMED])) + (", ..." if len(numbers) > _LINES_NAMED else "")
    return f"{len(numbers)} line{'s' * (len(numbers) != 1)} ({shown})"
