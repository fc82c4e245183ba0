from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path

import pytest

from attnframe.data import tatoeba
from attnframe.data.words import split_words
from attnframe.errors import UserError

REAL = Path(__file__).parents[3] / "shared" / "data" / "tatoeba-en-fr.tsv.gz"

NEW_EXPORT = "".join(
    f"Go {i}.\t{word} {i} !\tCC-BY 2.0 (France) Attribution: tatoeba.org #{i} (CM) & #{i + 7} (nimfeo)\n"
    for i in range(53)
    for word in ("Va", "Marche", "Bouge")[: 1 + i % 3]
)


def old_export() -> str:
    return "".join(line.rpartition("\t")[0] + "\n" for line in NEW_EXPORT.splitlines())


def test_old_and_new_exports_give_the_same_pairs(tmp_path: Path) -> None:
    for name, content in (("old.txt", old_export()), ("new.tsv", NEW_EXPORT)):
        (tmp_path / name).write_text(content, encoding="utf-8")
    with zipfile.ZipFile(tmp_path / "fra-eng.zip", "w") as archive:
        archive.writestr("_about.txt", "About")
        archive.writestr("fra.txt", NEW_EXPORT)
    loaded = [
        tatoeba.load(path=str(tmp_path / name), val_size=7, test_size=11)
        for name in ("old.txt", "new.tsv", "fra-eng.zip")
    ]
    assert len({corpus.hash() for corpus in loaded}) == 1
    sets = loaded[0].sets
    assert (len(sets["val"]), len(sets["test"])) == (7, 11)
    for pair in (*sets["val"], *sets["test"]):
        number = int(pair.source.removeprefix("Go ").removesuffix("."))
        translations = [f"{word} {number} !" for word in ("Va", "Marche", "Bouge")[: 1 + number % 3]]
        assert [pair.target, *pair.references] == translations
    assert not loaded[0].has_alignments
    assert loaded[0].test_sets == ("test",)


def test_the_description_says_where_the_sentences_come_from_and_what_was_left_out(tmp_path: Path) -> None:
    file = tmp_path / "fra.txt"
    file.write_text(NEW_EXPORT + "\n" + "Go 1.\tVa 1 !\n" + "Go " * 20 + "\tVa\n", encoding="utf-8")
    corpus = tatoeba.load(path=str(file), val_size=7, test_size=11, max_length=10)
    assert corpus.description == {
        "path": str(file),
        "url": None,
        "attribution": "tatoeba.org and manythings.org/anki, CC BY 2.0",
        "max_length": 10,
        "lines_read": len(NEW_EXPORT.splitlines()) + 3,
        "lines_left_out": {"malformed": 0, "empty": 1, "too_long": 1},
        "duplicate_pairs": 1,
        "source_sentences": 53,
    }


def test_too_few_sentences_for_the_sets(tmp_path: Path) -> None:
    file = tmp_path / "fra.txt"
    file.write_text(NEW_EXPORT, encoding="utf-8")
    with pytest.raises(UserError, match="53 source sentences; it needs at least 4001"):
        tatoeba.load(path=str(file))


@pytest.mark.skipif(not REAL.exists(), reason=f"the real sentences are not at {REAL}")
def test_real_sentences() -> None:
    corpus = tatoeba.load(path=str(REAL))
    assert {name: len(pairs) for name, pairs in corpus.sets.items()} == {"train": 50_064, "val": 2000, "test": 2000}
    sources = {name: {pair.source.casefold() for pair in pairs} for name, pairs in corpus.sets.items()}
    assert not sources["train"] & (sources["val"] | sources["test"])
    assert not sources["val"] & sources["test"]
    everything = [pair for pairs in corpus.sets.values() for pair in pairs]
    assert len({pair.id for pair in everything}) == len(everything)
    words = Counter(word for pair in everything for word in split_words(pair.source))
    assert 1_900 < len(words) < 4_000
    lengths = [len(split_words(pair.source)) for pair in everything]
    assert 6 < sum(lengths) / len(lengths) < 8
    shorter = tatoeba.load(path=str(REAL), max_length=7)
    assert all(
        len(split_words(text)) <= 7
        for pairs in shorter.sets.values()
        for pair in pairs
        for text in (pair.source, pair.target)
    )
    left_out = shorter.description["lines_left_out"]
    assert isinstance(left_out, dict)
    assert left_out["too_long"] + sum(map(len, shorter.sets.values())) == 54_064
