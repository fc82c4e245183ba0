"""The user's own sentence pairs, from one file in columns or from a file for each language."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from attnframe.data.pair_files import PairsRead, ReadingRules, read_aligned_files, read_columns
from attnframe.data.schema import Corpus, SentencePair
from attnframe.data.splitting import SourceGroups
from attnframe.errors import UserError, did_you_mean

USES = ("split", "test")
_HOW = "give data.path=FILE (tab-separated), or data.source_path=FILE and data.target_path=FILE (line by line)"


def load(
    *,
    path: str | None = None,
    source_path: str | None = None,
    target_path: str | None = None,
    alignment_path: str | None = None,
    languages: Sequence[str] = ("en", "fr"),
    val_size: int | None = None,
    test_size: int | None = None,
    max_length: int | None = 100,
    bad_lines: str = "error",
    use: str = "split",
) -> Corpus:
    """The pairs of the file `path` (columns source, target and perhaps links) or of two files line by line.

    `alignment_path` goes with the two files; links are in Pharaoh format (`pharaoh`). Sizes are in source sentences
    (`splitting` says who goes where), `max_length` in words a side. With `use="test"` the set `test` is the whole file
    and `train` and `val` are empty. Raises `UserError` for settings that do not go together and for a file that
    cannot be used, with file, line and reason.
    """
    if use not in USES:
        raise UserError(f"data.use={use}: {did_you_mean(use, USES)}")
    rules = ReadingRules(max_length, bad_lines)
    files = _files(path, source_path, target_path, alignment_path)
    found = _read(files, rules)
    groups = SourceGroups(found.pairs)
    sets: dict[str, tuple[SentencePair, ...]]
    if use == "test":
        sets = {"train": (), "val": (), "test": groups.as_test_set()}
    else:
        sets = groups.split(val_size, test_size, place=" and ".join(map(str, files.values())))
    return Corpus(
        sets=sets,
        languages=language_names(languages),
        name="parallel_file",
        description={
            **{key: str(file) for key, file in files.items()},
            "use": use,
            "max_length": max_length,
            **found.counts(),
            "duplicate_pairs": groups.duplicates,
            "source_sentences": len(groups),
        },
    )


def language_names(languages: Sequence[str]) -> tuple[str, str]:
    """(source, target). Raises `UserError` where it is not two."""
    if len(languages) != 2:
        raise UserError(f"data.languages={list(languages)}: it must be two, source and target, such as [en,fr]")
    source, target = languages
    return source, target


def _files(
    path: str | None, source_path: str | None, target_path: str | None, alignment_path: str | None
) -> dict[str, Path]:
    """The files by the name of their setting; `source_path` and `target_path` come first and second."""
    given = {
        "path": path,
        "source_path": source_path,
        "target_path": target_path,
        "alignment_path": alignment_path,
    }
    files = {key: Path(value).expanduser() for key, value in given.items() if value}
    if set(files) not in ({"path"}, {"source_path", "target_path"}, {"source_path", "target_path", "alignment_path"}):
        chosen = " ".join(f"data.{key}={value}" for key, value in given.items() if value)
        raise UserError(f"data=parallel_file {chosen or 'without a file'}: {_HOW}; data.alignment_path goes with both")
    return files


def _read(files: dict[str, Path], rules: ReadingRules) -> PairsRead:
    if "path" in files:
        return read_columns(files["path"], rules, links=True)
    return read_aligned_files(files["source_path"], files["target_path"], files.get("alignment_path"), rules)
