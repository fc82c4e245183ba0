"""Real sentences: translations of the Tatoeba project, in the export of manythings.org.

The sentences are under CC BY 2.0 (https://creativecommons.org/licenses/by/2.0/): attribution to tatoeba.org and
manythings.org/anki. The project ships none of them; they are downloaded on first use, or read from a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnframe.data.download import cache_folder, cached_download
from attnframe.data.lines import read_lines
from attnframe.data.pair_files import ReadingRules, read_columns
from attnframe.data.parallel_file import language_names
from attnframe.data.schema import Corpus
from attnframe.data.splitting import SourceGroups
from attnframe.errors import UserError

URL = "https://www.manythings.org/anki/fra-eng.zip"
ATTRIBUTION = "tatoeba.org and manythings.org/anki, CC BY 2.0"

FEWEST_ROWS = 5_000
"""A download with fewer rows of two or three columns is no export."""


def load(
    *,
    path: str | None = None,
    url: str = URL,
    languages: Sequence[str] = ("en", "fr"),
    val_size: int | None = 2000,
    test_size: int | None = 2000,
    max_length: int | None = None,
    bad_lines: str = "error",
) -> Corpus:
    """The sentences of the file `path`, or without one those of the address `url`, downloaded once.

    The file has the columns source, target and perhaps attribution; it may be packed (`lines.read_lines`). Sizes are
    in source sentences (`splitting` says who goes where), `max_length` in words a side, None for no limit. Raises
    `UserError` where the file cannot be had or used.
    """
    rules = ReadingRules(max_length, bad_lines)
    file = Path(path).expanduser() if path else cached_download(url, cache_folder() / "tatoeba", _check_export)
    found = read_columns(file, rules, links=False)
    groups = SourceGroups(found.pairs)
    return Corpus(
        sets=groups.split(val_size, test_size, place=str(file)),
        languages=language_names(languages),
        name="tatoeba",
        description={
            "path": str(file),
            "url": None if path else url,
            "attribution": ATTRIBUTION,
            "max_length": max_length,
            **found.counts(),
            "duplicate_pairs": groups.duplicates,
            "source_sentences": len(groups),
        },
    )


def _check_export(file: Path) -> None:
    rows = sum(line is not None and line.count(b"\t") in (1, 2) for line in read_lines(file, label="the download"))
    if rows < FEWEST_ROWS:
        raise UserError(f"it has {rows} rows of two or three columns, and an export has {FEWEST_ROWS} at least")
