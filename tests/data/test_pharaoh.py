from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path

import pytest

from attnframe.data import parallel_file
from attnframe.data.pharaoh import read_alignment
from attnframe.data.schema import Link
from attnframe.data.words import split_words
from attnframe.patterns.alignment import alignment_error_rate

# White-space tokens, and how many words each is.
TOKENS = {"chat": 1, "don't": 1, "l'homme": 2, "chien,": 2, "(est-ce)": 3, "qu'il": 2, "!": 1, "n'a...": 5}


def test_each_word_of_a_token_is_linked_with_each_word_of_the_other() -> None:
    assert {token: len(split_words(token)) for token in TOKENS} == TOKENS
    # chien , l' homme            the man , don't
    # 0     1 2  3                0   1   2 3
    found = read_alignment("1-1 0?0 1?2", "chien, l'homme", "the man, don't")
    assert found.sure == {(2, 1), (3, 1), (2, 2), (3, 2)}
    assert found.possible == found.sure | {(0, 0), (1, 0), (2, 3), (3, 3)}


def test_no_links_are_an_alignment_without_links() -> None:
    assert read_alignment("", "a", "b").possible == frozenset()


@pytest.mark.parametrize(
    "link", ["0:0", "a-b", "0-", "-0", "0--0", "0–0", "0-0-0", "1e3-0", "٠-٠", "0.5-0", "0", "p", "9" * 5000 + "-0"]
)
def test_what_is_no_link_is_named(link: str) -> None:
    with pytest.raises(ValueError, match="no link in Pharaoh format") as refused:
        read_alignment(f"0-0 {link} 1-1", "a b", "c d")
    assert repr(link)[1:10] in str(refused.value)
    assert len(str(refused.value)) < 150


@pytest.mark.parametrize("link", ["2-0", "0-3", "0?3", "999999-0"])
def test_a_link_to_a_token_that_is_not_there_is_named(link: str) -> None:
    with pytest.raises(ValueError, match="2 source and 3 target tokens") as refused:
        read_alignment(f"1-2 {link}", "l'homme b", "c d, e")
    assert repr(link) in str(refused.value)


def through_a_file(tmp_path: Path, lines: list[str]) -> list[parallel_file.SentencePair]:
    file = tmp_path / "gold.tsv"
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return list(parallel_file.load(path=str(file), use="test").sets["test"])


def test_the_error_rate_of_three_sentences_by_hand(tmp_path: Path) -> None:
    pairs = through_a_file(tmp_path, ["a b\tx y\t0-0 1?1", "c d e\tz w\t0-0 1?0 2-1", "f\tu v\t0?0 0-1"])
    links = [[(0, 0), (1, 1)], [(1, 0), (2, 1)], [(0, 0), (0, 1)]]
    gold = [pair.alignment for pair in pairs]
    assert all(alignment is not None for alignment in gold)
    # |A| = 6 and |S| = 4; A and S share (0,0), (2,1), (0,1); every link of A is possible: 1 - (3 + 6) / (6 + 4).
    rate = alignment_error_rate((found, known) for found, known in zip(links, gold, strict=True) if known)
    assert rate == pytest.approx(0.1, abs=1e-15)


def error_rate(lines: list[str], found: list[set[Link]]) -> Fraction:
    """AER (Och & Ney 2003, section 4.3) from the lines of a file, by their definition and word by word."""
    hits = size = 0
    for line, links in zip(lines, found, strict=True):
        source, target, gold = (column.split(" ") for column in line.split("\t"))
        owner = {
            side: [index for index, token in enumerate(tokens) for _ in range(TOKENS[token])]
            for side, tokens in (("source", source), ("target", target))
        }
        for i, src_token in enumerate(owner["source"]):
            for j, tgt_token in enumerate(owner["target"]):
                is_sure = f"{src_token}-{tgt_token}" in gold
                is_possible = is_sure or f"{src_token}?{tgt_token}" in gold
                is_found = (i, j) in links
                hits += (is_found and is_sure) + (is_found and is_possible)
                size += is_found + is_sure
    return 1 - Fraction(hits, size)


@pytest.mark.parametrize("seed", range(100))
def test_the_error_rate_of_random_files(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    lines, found = [], []
    for number in range(rng.randint(1, 7)):
        source = [rng.choice(list(TOKENS)) for _ in range(rng.randint(1, 5) + number)]  # no source comes twice
        target = [rng.choice(list(TOKENS)) for _ in range(rng.randint(1, 7))]
        if any(line.split("\t")[0] == " ".join(source) for line in lines):
            continue
        cells = [(i, j) for i in range(len(source)) for j in range(len(target))]
        gold = " ".join(f"{i}{rng.choice('-?')}{j}" for i, j in rng.choices(cells, k=rng.randint(1, 9)))
        lines.append("\t".join((" ".join(source), " ".join(target), gold)))
        num_src, num_tgt = (sum(TOKENS[token] for token in side) for side in (source, target))
        found.append({(rng.randrange(num_src), j) for j in range(num_tgt)})
    gold_links = [pair.alignment for pair in through_a_file(tmp_path, lines)]
    rate = alignment_error_rate((links, known) for links, known in zip(found, gold_links, strict=True) if known)
    assert rate == pytest.approx(float(error_rate(lines, found)), abs=1e-12)
