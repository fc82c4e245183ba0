from __future__ import annotations

import hashlib
import random
import unicodedata

import pytest

from attnframe.data.schema import Alignment, Corpus, SentencePair
from attnframe.data.splitting import SourceGroups, TextPair
from attnframe.errors import UserError


def several(sources: int, seed: int = 0) -> list[TextPair]:
    """Sources with one to three translations each, in random order."""
    rng = random.Random(seed)
    pairs = [
        TextPair(f"Sentence {i} here.", f"Phrase {i} {word}.")
        for i in range(sources)
        for word in ("un", "deux", "trois")[: rng.randint(1, 3)]
    ]
    rng.shuffle(pairs)
    return pairs


def split(pairs: list[TextPair], val_size: int | None = 13, test_size: int | None = 17) -> dict[str, set[str]]:
    sets = SourceGroups(pairs).split(val_size, test_size, place="FILE")
    return {name: {pair.source for pair in members} for name, members in sets.items()}


def test_no_source_is_in_two_sets_and_none_is_lost() -> None:
    pairs = several(199)
    sets = split(pairs)
    assert (len(sets["train"]), len(sets["val"]), len(sets["test"])) == (169, 13, 17)
    assert set.union(*sets.values()) == {pair.source for pair in pairs}


def test_the_lowest_hashes_are_validation_and_the_next_test() -> None:
    pairs = several(199)
    ranked = sorted({pair.source for pair in pairs}, key=lambda s: hashlib.sha256(s.lower().encode()).digest())
    assert split(pairs) == {"val": set(ranked[:13]), "test": set(ranked[13:30]), "train": set(ranked[30:])}


def test_the_order_of_the_file_does_not_matter() -> None:
    pairs = several(199)
    shuffled = random.Random(5).sample(pairs, len(pairs))
    assert split(shuffled) == split(pairs)
    ids = [
        {name: {pair.id for pair in members} for name, members in SourceGroups(p).split(13, 17, place="FILE").items()}
        for p in (pairs, shuffled)
    ]
    assert ids[0] == ids[1]


def test_more_sentences_never_move_one_from_training_to_test_and_back() -> None:
    small, large = split(several(199)), split(several(1009))
    for name in ("val", "test"):
        assert small["train"].isdisjoint(large["val"] | large["test"]), name


@pytest.mark.parametrize(
    "change",
    [str.lower, str.upper, lambda text: unicodedata.normalize("NFD", text), lambda text: text.replace("...", "…")],
)
def test_a_source_in_other_letters_stays_in_its_set(change: object) -> None:
    assert callable(change)
    pairs = [TextPair(f"Élève {i} straße...", f"x {i}") for i in range(97)]
    pairs += [TextPair(change(pair.source), pair.target + " bis") for pair in pairs]
    groups = SourceGroups(pairs)
    assert len(groups) == 97
    sets = groups.split(11, 13, place="FILE")
    numbers = {name: {pair.source.split()[1] for pair in members} for name, members in sets.items()}
    assert not numbers["train"] & (numbers["val"] | numbers["test"])
    assert not numbers["val"] & numbers["test"]
    assert all(len(pair.references) == 1 for pair in sets["val"] + sets["test"])
    assert len(sets["train"]) == 2 * (97 - 11 - 13)


def test_references_are_the_other_translations_in_the_order_of_the_file() -> None:
    pairs = [
        TextPair("Hello.", "Bonjour.", Alignment(frozenset({(0, 0)}))),
        TextPair("Hello.", "Salut."),
        TextPair("Go.", "Va."),
        TextPair("hello.", "Bonjour."),
        TextPair("hello.", "Allô."),
        TextPair("Hello.", "Salut."),
    ]
    groups = SourceGroups(pairs)
    assert (len(groups), groups.duplicates) == (2, 1)
    hello, go = groups.as_test_set()
    assert (hello.source, hello.target, hello.references) == ("Hello.", "Bonjour.", ("Salut.", "Allô."))
    assert hello.alignment == Alignment(frozenset({(0, 0)}))
    assert (go.source, go.target, go.references) == ("Go.", "Va.", ())


def test_in_training_each_translation_is_a_pair_of_its_own() -> None:
    pairs = several(199)
    train = SourceGroups(pairs).split(13, 17, place="FILE")["train"]
    held_out = split(pairs)["val"] | split(pairs)["test"]
    expected = [(pair.source, pair.target) for pair in pairs if pair.source not in held_out]
    assert sorted((pair.source, pair.target) for pair in train) == sorted(expected)
    assert all(pair.references == () for pair in train)


def test_ids_are_unique_and_come_from_the_sentence_alone() -> None:
    pairs = several(199)
    sets = SourceGroups(pairs).split(13, 17, place="FILE")
    ids = [pair.id for members in sets.values() for pair in members]
    assert len(set(ids)) == len(ids)
    fewer = SourceGroups([TextPair("new", "nouveau"), *pairs[7:]]).split(13, 17, place="FILE")
    known = {(pair.source, pair.target): pair.id for pair in sets["train"]}
    again = {(pair.source, pair.target): pair.id for pair in fewer["train"]}
    assert len(known.keys() & again.keys()) > 200
    assert all(known[key] == again[key] for key in known.keys() & again.keys())


@pytest.mark.parametrize(
    ("sources", "size"), [(3, 1), (19, 1), (20, 2), (199, 19), (19_993, 1999), (20_011, 2000), (50_021, 2000)]
)
def test_a_tenth_each_at_most_2000_where_no_size_is_given(sources: int, size: int) -> None:
    sets = SourceGroups(TextPair(f"s{i}", "t") for i in range(sources)).split(None, None, place="FILE")
    sizes = {name: len(members) for name, members in sets.items()}
    assert sizes == {"train": sources - 2 * size, "val": size, "test": size}


@pytest.mark.parametrize(
    ("sources", "sizes", "said"),
    [
        (1, (None, None), ["FILE", "1 pair of 1 source sentence", "at least 3 source sentences"]),
        (2, (None, None), ["2 pairs of 2 source sentences", "at least 3"]),
        (30, (13, 17), ["at least 31", "13 to validate (data.val_size)", "17 to test (data.test_size)"]),
        (30, (0, 17), ["data.val_size=0", "1 or more"]),
        (30, (3, -2), ["data.test_size=-2", "1 or more"]),
    ],
)
def test_too_few_sources_and_bad_sizes(sources: int, sizes: tuple[int | None, int | None], said: list[str]) -> None:
    groups = SourceGroups(TextPair(f"s{i}", "t") for i in range(sources))
    with pytest.raises(UserError) as refused:
        groups.split(*sizes, place="FILE")
    for part in said:
        assert part in str(refused.value)


def test_one_source_more_than_the_sets_need_is_enough() -> None:
    sets = split([TextPair(f"s{i}", "t") for i in range(31)])
    assert len(sets["train"]) == 1


def test_references_count_in_the_hash_of_a_corpus_and_no_references_do_not() -> None:
    def hashed(*pairs: SentencePair) -> str:
        return Corpus({"train": (), "val": (), "test": pairs}).hash()

    plain = SentencePair("i", "s", "t", Alignment(frozenset({(0, 0)})), ("tag",))
    with_one = SentencePair("i", "s", "t", Alignment(frozenset({(0, 0)})), ("tag",), references=("u",))
    with_two = SentencePair("i", "s", "t", Alignment(frozenset({(0, 0)})), ("tag",), references=("u", "v"))
    expected = hashlib.sha256(b"#train\0#val\0#test\0i\0s\0t\0[(0, 0)][(0, 0)]\0tag\0").hexdigest()
    assert hashed(plain) == expected
    assert len({hashed(plain), hashed(with_one), hashed(with_two)}) == 3
