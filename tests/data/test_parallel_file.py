from __future__ import annotations

import inspect
import random
from dataclasses import fields
from pathlib import Path

import pytest

from attnframe.cli import composition, data_schema, settings
from attnframe.data import parallel_file, sources
from attnframe.errors import UserError


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """97 pairs with a link each."""
    file = tmp_path / "pairs.tsv"
    file.write_text("".join(f"a {i}\tb {i}\t0-0 1?1\n" for i in range(97)), encoding="utf-8")
    return file


def test_a_file_is_split_by_source_sentence(pairs: Path) -> None:
    corpus = parallel_file.load(path=str(pairs), val_size=7, test_size=11, languages=["eo", "tlh"])
    assert {name: len(members) for name, members in corpus.sets.items()} == {"train": 79, "val": 7, "test": 11}
    assert (corpus.languages, corpus.name) == (("eo", "tlh"), "parallel_file")
    assert corpus.has_alignments
    lines = pairs.read_text().splitlines(keepends=True)
    random.Random(3).shuffle(lines)
    pairs.write_text("".join(lines))
    again = parallel_file.load(path=str(pairs), val_size=7, test_size=11)
    for name, members in corpus.sets.items():
        assert {pair.id for pair in members} == {pair.id for pair in again.sets[name]}


def test_columns_and_files_give_the_same_corpus(pairs: Path, tmp_path: Path) -> None:
    columns = zip(*(line.split("\t") for line in pairs.read_text().splitlines()), strict=True)
    for name, column in zip(("en", "fr", "links"), columns, strict=True):
        (tmp_path / name).write_text("\n".join(column))
    files = {"source_path": str(tmp_path / "en"), "target_path": str(tmp_path / "fr")}
    with_links = parallel_file.load(**files, alignment_path=str(tmp_path / "links"))
    assert with_links.hash() == parallel_file.load(path=str(pairs)).hash()
    assert not parallel_file.load(**files).has_alignments
    assert with_links.description["alignment_path"] == str(tmp_path / "links")


def test_a_file_used_as_a_test_set_is_there_whole(pairs: Path) -> None:
    with pairs.open("a") as file:
        file.write("a 0\tb zero\t0-0\nA  0\tb nil\t\n")
    corpus = parallel_file.load(path=str(pairs), use="test")
    assert (corpus.sets["train"], corpus.sets["val"]) == ((), ())
    assert [pair.source for pair in corpus.sets["test"]] == [f"a {i}" for i in range(97)]
    assert corpus.sets["test"][0].references == ("b zero", "b nil")
    assert corpus.has_alignments
    ids = {pair.source: pair.id for pair in corpus.sets["test"]}
    held_out = parallel_file.load(path=str(pairs)).sets["test"]
    assert all(ids[pair.source] == pair.id for pair in held_out)


def test_the_description_counts_what_was_left_out(pairs: Path) -> None:
    with pairs.open("a") as file:
        file.write("a 1\tb 1\t0-0\nbad\n\n" + "a " * 101 + "\tb\t\n")
    corpus = parallel_file.load(path=str(pairs), bad_lines="skip")
    assert corpus.description == {
        "path": str(pairs),
        "use": "split",
        "max_length": 100,
        "lines_read": 101,
        "lines_left_out": {"malformed": 1, "empty": 1, "too_long": 1},
        "duplicate_pairs": 1,
        "source_sentences": 97,
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "without a file"),
        ({"path": "a", "source_path": "b", "target_path": "c"}, "data.path=a data.source_path=b"),
        ({"source_path": "b"}, "data.source_path=b"),
        ({"target_path": "b", "alignment_path": "d"}, "data.target_path=b"),
        ({"path": "a", "alignment_path": "d"}, "data.alignment_path goes with both"),
        ({"path": "a", "use": "tset"}, "did you mean 'test'"),
        ({"path": "{file}", "languages": ["en"]}, "data.languages"),
        ({"path": "{file}", "languages": ["en", "fr", "de"]}, "data.languages"),
    ],
)
def test_settings_that_do_not_go_together(pairs: Path, options: dict[str, object], said: str) -> None:
    if options.get("path") == "{file}":
        options = {**options, "path": str(pairs)}
    with pytest.raises(UserError, match=said):
        parallel_file.load(**options)  # type: ignore[arg-type]


def test_a_home_is_found(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(pairs.parent))
    assert len(parallel_file.load(path="~/pairs.tsv").sets["train"]) == 79


@pytest.mark.parametrize("name", sorted(sources._SOURCES))
def test_the_config_of_a_source_is_what_its_function_takes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("ATTNFRAME_LAUNCH", "HYDRA_FULL_ERROR"):
        monkeypatch.setenv(variable, "")
    composition.prepare()
    chosen = settings.plain(composition.compose_config([f"data={name}"]))["data"]
    shared = {field.name for field in fields(data_schema.DataSchema)}
    parameters = inspect.signature(sources._SOURCES[name]).parameters
    assert set(chosen) - shared == set(parameters)
    for key, parameter in parameters.items():
        default = list(parameter.default) if isinstance(parameter.default, tuple) else parameter.default
        assert chosen[key] == default, key
