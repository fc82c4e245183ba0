"""A snapshot that is read is the one that was written; an older or a damaged file is told for what it is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from attnframe import UserError
from attnframe.attention import PatternKind
from attnframe.data.schema import Alignment
from attnframe.patterns import Pattern, Patterns
from attnframe.runs.folder import RunFolder
from attnframe.runs.sentence_patterns import SentencePatterns
from attnframe.runs.snapshots import Snapshot, read_snapshot, snapshot_file, snapshot_files, write_snapshot

SOURCE, TARGET = "où est 👩‍🚀 <b> שלום", "the end"


def snapshot(*, contributions: bool = True, alignment: Alignment | None = None) -> Snapshot:
    source, target = [*SOURCE.split(), "<eos>"], TARGET.split()
    labels = {
        "encoder_self": (source, source),
        "decoder_self": (["<bos>", *target], ["<bos>", *target]),
        "cross": ([*target, "<eos>"], source),
    }
    patterns = Patterns()
    kinds = {"encoder_self": PatternKind.SIGNED, "decoder_self": PatternKind.PROBABILITY, "cross": PatternKind.IMPLICIT}
    for number, (site, (queries, keys)) in enumerate(labels.items()):
        for layer, heads in enumerate((2, 11)):
            shape = (1, heads, len(queries), len(keys))
            weights = torch.randn(shape, generator=torch.Generator().manual_seed(number + layer))
            weights[0, 0, 0, 0] = float("nan")
            norms = weights.abs() * 3 if contributions and layer == 0 else None
            patterns.add((site, layer), Pattern(weights, kinds[site], norms))
    return Snapshot(SentencePatterns(SOURCE, TARGET, labels, patterns), alignment)


def same(one: torch.Tensor | None, other: torch.Tensor | None) -> bool:
    if one is None or other is None:
        return one is other
    return torch.equal(one.nan_to_num(99.0), other.nan_to_num(99.0))


@pytest.mark.parametrize(
    "alignment",
    [None, Alignment(frozenset()), Alignment(frozenset({(0, 1)}), frozenset({(2, 0), (4, 1)}))],
    ids=["none", "empty", "some"],
)
def test_what_is_read_is_what_was_written(tmp_path: Path, alignment: Alignment | None) -> None:
    written = snapshot(alignment=alignment)
    file = snapshot_file(RunFolder(tmp_path), 100, 2)
    write_snapshot(file, written)
    assert file == tmp_path / "patterns" / "step_000100" / "sentence_2.npz"
    read = read_snapshot(file)
    assert read.alignment == alignment
    assert (read.patterns.source, read.patterns.target) == (SOURCE, TARGET)
    assert read.patterns.labels == written.patterns.labels
    assert list(read.patterns) == list(written.patterns)
    for place, pattern in read.patterns.items():
        expected = written.patterns[place]
        assert pattern.kind is expected.kind
        assert same(pattern.weights, expected.weights)
        assert same(pattern.contributions, expected.contributions)
    assert [file.name for file in file.parent.iterdir()] == ["sentence_2.npz"]


@pytest.mark.parametrize("sites", [("cross",), ("cross", "decoder_self", "encoder_self")])
def test_what_has_no_pattern_keeps_its_reason(tmp_path: Path, sites: tuple[str, ...]) -> None:
    written = snapshot()
    missing = {
        (site, layer): f"où {site} – {layer}" for site in sites for layer in ((1,) if site == "cross" else (0, 1))
    }
    for place, reason in missing.items():
        written.patterns.patterns.leave_out(place, reason)
    write_snapshot(tmp_path / "sentence_0.npz", written)
    read = read_snapshot(tmp_path / "sentence_0.npz")
    assert read.patterns.missing == missing
    assert list(read.patterns) == list(written.patterns)
    assert read.patterns.labels == written.patterns.labels


def test_files_are_found_by_step_and_sentence(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    for step, sentence in ((1_000_000, 0), (300, 11), (300, 2), (7, 0)):
        file = snapshot_file(folder, step, sentence)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    (folder.patterns / "step_000300" / ".sentence_3.npz.partial").touch()
    (folder.patterns / "step_000300" / "sentence_x.npz").touch()
    (folder.patterns / "heads.csv").touch()
    found = snapshot_files(folder)
    assert {step: list(files) for step, files in found.items()} == {7: [0], 300: [2, 11], 1_000_000: [0]}
    assert list(found) == [7, 300, 1_000_000]
    assert snapshot_files(RunFolder(tmp_path / "none")) == {}


def test_a_file_of_an_older_version_has_no_contributions_or_links(tmp_path: Path) -> None:
    file = tmp_path / "sentence_0.npz"
    write_snapshot(file, snapshot(contributions=False))
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files if name not in ("source", "target")}
    np.savez_compressed(file, **arrays)
    read = read_snapshot(file)
    assert (read.patterns.source, read.patterns.target) == (SOURCE, TARGET)
    assert read.alignment is None
    assert all(pattern.contributions is None for pattern in read.patterns.values())


def damage_cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])


def damage_empty(file: Path) -> None:
    file.write_bytes(b"")


def damage_text(file: Path) -> None:
    file.write_text("not an archive\n")


def damage_bytes(file: Path) -> None:
    content = bytearray(file.read_bytes())
    for place in range(60, len(content) // 2, 3):
        content[place] ^= 255
    file.write_bytes(content)


def damage_labels(file: Path) -> None:
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez_compressed(file, **{**arrays, "cross/key_labels": arrays["cross/key_labels"][:-1]})


def damage_objects(file: Path) -> None:
    """Nothing is unpickled, whoever wrote the file."""
    with np.load(file) as archive:
        arrays = {name: archive[name] for name in archive.files}
    np.savez_compressed(file, **{**arrays, "cross/layer_0": np.array([{}], dtype=object)})


@pytest.mark.parametrize("damage", [damage_cut, damage_empty, damage_text, damage_bytes, damage_labels, damage_objects])
def test_a_damaged_file_is_one_sentence(tmp_path: Path, damage: object) -> None:
    file = tmp_path / "sentence_0.npz"
    write_snapshot(file, snapshot())
    damage(file)  # type: ignore[operator]
    with pytest.raises(UserError, match=r"sentence_0\.npz cannot be read, it is damaged: [^\n]+$"):
        read_snapshot(file)
