from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections import Counter
from itertools import pairwise

import pytest

from attnframe.data import grammar
from attnframe.data.bpe import BpeTokenizer
from attnframe.data.tokenizer import SPECIAL_TOKENS, UNK, fit_tokenizer
from attnframe.data.words import GLUED, SPACED, split_words
from attnframe.errors import UserError

Pair = tuple[str, str]

FIRST = len(SPECIAL_TOKENS)


def learn(texts: list[str], num_pieces: int) -> tuple[list[str], list[Pair]]:
    """Pieces and merges, learned as the paper's algorithm 1 does, in plain loops."""
    words = Counter(word + " " for text in texts for word in split_words(text))
    cut = {word: list(word) for word in words}
    pieces = sorted({" ", GLUED, SPACED} | {c for word in words for c in word})
    merges: list[Pair] = []
    while len(pieces) < num_pieces:
        counts: Counter[Pair] = Counter()
        for word, symbols in cut.items():
            for pair in pairwise(symbols):
                counts[pair] += words[word]
        counts = Counter({pair: count for pair, count in counts.items() if count >= 2})
        if not counts:
            break
        best = min(counts, key=lambda p: (-counts[p], pieces.index(p[0]), pieces.index(p[1])))
        merges.append(best)
        if "".join(best) not in pieces:
            pieces.append("".join(best))
        cut = {word: merged(symbols, best) for word, symbols in cut.items()}
    return pieces, merges


def merged(symbols: list[str], pair: Pair) -> list[str]:
    """`symbols` with every occurrence of `pair`, from the left, joined."""
    out: list[str] = []
    for symbol in symbols:
        if out and (out[-1], symbol) == pair:
            out[-1] += symbol
        else:
            out.append(symbol)
    return out


def apply(word: str, merges: list[Pair]) -> list[str]:
    """The pieces of a word: each merge in its turn, the first first."""
    symbols = [*word, " "]
    for pair in merges:
        symbols = merged(symbols, pair)
    return symbols


def random_words(rng: random.Random, alphabet: str, count: int) -> list[str]:
    return ["".join(rng.choices(alphabet, k=rng.randint(1, 9))) for _ in range(count)]


@pytest.mark.parametrize("seed", range(40))
def test_pieces_and_merges_are_those_of_the_algorithm(seed: int) -> None:
    rng = random.Random(seed)
    texts = [" ".join(random_words(rng, "abcde"[: rng.randint(1, 5)] + "'", 5)) for _ in range(rng.randint(1, 13))]
    size = rng.randint(FIRST + 9, 70)
    pieces, merges = learn(texts, size - FIRST)
    state = BpeTokenizer.fit(texts, vocab_size=size).state_dict()
    assert state["vocabulary"] == pieces
    assert [tuple(pair) for pair in state["merges"]] == merges


@pytest.mark.parametrize("seed", range(20))
def test_words_are_cut_as_by_hand(seed: int) -> None:
    """Over learned merges, and over any that a vocabulary could hold."""
    rng = random.Random(seed)
    tokenizer = BpeTokenizer.fit([" ".join(random_words(rng, "abc", 40))], vocab_size=47)
    state = tokenizer.state_dict()
    merges = [(left, right) for left, right in state["merges"]]
    ids = {piece: FIRST + index for index, piece in enumerate(state["vocabulary"])}
    for word in random_words(rng, "abcx漢", 60):
        expected = apply(word, merges)
        assert tokenizer.encode(word) == [ids.get(piece, UNK) for piece in expected]
        assert tokenizer.pieces(word) == [piece.removesuffix(" ") for piece in expected]


def test_a_hand_made_vocabulary() -> None:
    pieces = [" ", "h", "e", "n", ".", "n ", "he", "hen ", ". "]
    tokenizer = BpeTokenizer(pieces, [("n", " "), ("h", "e"), ("he", "n "), (".", " ")])
    assert tokenizer.encode("hen. nhe") == [11, 12, 7, 10, 4]
    assert tokenizer.pieces("hen. nhe") == ["hen", ".", "n", "he", ""]
    assert tokenizer.word_ids("hen. nhe") == [0, 1, 2, 2, 2]
    assert tokenizer.decode([11, 12, 7, 10, 4]) == "hen. nhe"
    # Pieces of no text that was ever cut: words end where a piece says so, and at the end.
    assert tokenizer.decode([10, 10, 9, 4, 4, 5]) == "hehen h"


def test_each_unknown_character_is_one_piece() -> None:
    tokenizer = BpeTokenizer.fit(["the cat."] * 2)
    ids = tokenizer.encode("tXYe 漢.")
    assert [index == UNK for index in ids] == [False, True, True, False, True, False, False]
    assert tokenizer.pieces("tXYe 漢.") == ["t", "X", "Y", "e", "漢", "", "."]
    assert tokenizer.decode(ids) == "t<unk><unk>e <unk>."


def test_spacing_that_breaks_the_rule_is_known_from_the_start() -> None:
    tokenizer = BpeTokenizer.fit(["a, b ( c )? d"])
    for text in ("a,b", "a ,b", "d ( c)?", "(a )", f"a {GLUED} b{SPACED}"):
        ids = tokenizer.encode(text)
        assert UNK not in ids
        assert tokenizer.decode(ids) == text


def test_a_frequent_word_is_one_piece_and_a_rare_one_several() -> None:
    corpus = grammar.load(train_size=500, val_size=1, test_size=1, held_out_size=1)
    texts = [pair.target for pair in corpus.sets["train"]]
    tokenizer = BpeTokenizer.fit(texts, vocab_size=150)
    assert len(tokenizer) == 150
    assert len(tokenizer.encode("le")) == 1
    lengths = {word: len(tokenizer.encode(word)) for text in texts for word in split_words(text)}
    assert max(lengths.values()) > 4
    assert UNK not in tokenizer.encode(" ".join(texts))


def test_there_are_no_more_pieces_than_pairs_to_merge() -> None:
    assert len(fit_tokenizer("bpe", ["ab ab"])) == FIRST + len({"a", "b", " ", GLUED, SPACED}) + len(["ab", "ab "])


def test_the_characters_must_fit() -> None:
    needed = FIRST + len({"a", "b", "c", " ", GLUED, SPACED})
    assert len(BpeTokenizer.fit(["abc"] * 5, vocab_size=needed)) == needed
    with pytest.raises(UserError, match=rf"data\.vocab_size=9: it must be {needed} or more.* 6 different characters"):
        BpeTokenizer.fit(["abc"] * 5, vocab_size=9)
    with pytest.raises(UserError, match=r"data\.vocab_size=0: "):
        BpeTokenizer.fit([], vocab_size=0)


def test_a_vocabulary_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="a piece twice"):
        BpeTokenizer(["a", "b", "a"], [])
    with pytest.raises(ValueError, match="a piece twice"):
        BpeTokenizer(["a", "<eos>"], [])
    with pytest.raises(ValueError, match="no pieces"):
        BpeTokenizer(["a", "b"], [("a", "b")])


def test_the_order_of_the_texts_does_not_matter() -> None:
    rng = random.Random(3)
    texts = random_words(rng, "abcde", 400)
    state = BpeTokenizer.fit(texts, vocab_size=97).state_dict()
    for _ in range(5):
        rng.shuffle(texts)
        assert BpeTokenizer.fit(texts, vocab_size=97).state_dict() == state


def test_every_process_learns_the_same() -> None:
    program = """
import json, random
from attnframe.data.bpe import BpeTokenizer
rng = random.Random(7)
texts = ["".join(rng.choices("abcde ", k=31)) for _ in range(300)]
print(json.dumps(BpeTokenizer.fit(texts, vocab_size=211).state_dict()))
"""
    states = {
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={**os.environ, "PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": threads},
        ).stdout
        for seed, threads in (("1", "1"), ("2", "3"))
    }
    assert len(states) == 1
    assert len(json.loads(states.pop())["merges"]) == 211 - FIRST - len("abcde ") - 2


def test_labels_are_for_people_to_read() -> None:
    texts = [
        pair.source for pair in grammar.load(train_size=30, val_size=1, test_size=1, held_out_size=1).sets["train"]
    ]
    tokenizer = fit_tokenizer("bpe", texts, vocab_size=61)
    for text in texts:
        labels = [tokenizer.label(index) for index in tokenizer.encode(text)]
        assert " ".join(labels).replace("@@ ", "").replace("␣", "").split() == split_words(text)
    assert [tokenizer.label(index) for index in range(FIRST)] == list(SPECIAL_TOKENS)
    odd = BpeTokenizer([" ", GLUED, f"{GLUED}? ", f"{SPACED}x", "y "], [])
    assert [odd.label(FIRST + index) for index in range(5)] == ["␣", f"{GLUED}@@", "?", "x@@", "y"]
