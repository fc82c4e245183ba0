from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter

import pytest

from attnframe.data import content_words, grammar
from attnframe.data.schema import Corpus, SentencePair
from attnframe.data.words import join_words, split_words
from attnframe.errors import UserError

SMALL = {"train_size": 300, "val_size": 20, "test_size": 30, "held_out_size": 20}
ORDINARY_SETS = ("train", "val", "test")

ADJECTIVES = {adjective.english: adjective for adjective in content_words.ADJECTIVES}
SINGULARS = {noun.english for noun in content_words.NOUNS}
PLURALS = {noun.english_plural: noun.english for noun in content_words.NOUNS}
NOUNS = {**PLURALS, **{noun: noun for noun in SINGULARS}}
PAST_FORMS = {"did", *(verb.past for verb in content_words.VERBS)}
ADVERBS = {"often", "always", "sometimes", "rarely", "well", "badly", "quietly", "today", "now", "yesterday"}


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return grammar.load()


@pytest.fixture(scope="module")
def pairs(corpus: Corpus) -> list[SentencePair]:
    return [pair for part in corpus.sets.values() for pair in part]


def has_object_pronoun(words: list[str]) -> bool:
    for previous, word, following in zip(["and", *words], words, [*words[1:], "."], strict=False):
        if word in ("me", "him", "us", "them"):
            return True
        if word == "you" and previous != "and":
            return True
        if word == "her" and following not in ADJECTIVES and following not in NOUNS:
            return True
    return False


def is_composition(words: list[str]) -> bool:
    negated = not {"not", "never"}.isdisjoint(words)
    return negated and not PAST_FORMS.isdisjoint(words) and has_object_pronoun(words)


def attributes(words: list[str]) -> list[tuple[str, str]]:
    found = []
    for place, word in enumerate(words):
        if word in NOUNS:
            before = place - 1
            while words[before] in ADJECTIVES:
                found.append((words[before], NOUNS[word]))
                before -= 1
    return found


def predicates(words: list[str]) -> list[tuple[str, str]]:
    found = []
    for place, word in enumerate(words):
        if word in ("is", "are") and words[place - 1] in NOUNS:
            adjective = next(other for other in words[place:] if other in ADJECTIVES)
            found.append((adjective, NOUNS[words[place - 1]]))
    return found


def has_crossing_links(pair: SentencePair) -> bool:
    assert pair.alignment is not None
    links = sorted(pair.alignment.sure)
    return any(source < other and target > another for source, target in links for other, another in links)


def test_sets_have_their_sizes_and_ids(corpus: Corpus) -> None:
    sizes = {name: len(part) for name, part in corpus.sets.items()}
    assert list(sizes.items()) == [
        ("train", 24_000),
        ("val", 1_000),
        ("test", 2_000),
        ("unseen_pairs", 1_000),
        ("composition", 1_000),
        ("longer", 1_000),
    ]
    assert corpus.test_sets == ("test", "unseen_pairs", "composition", "longer")
    assert corpus.languages == ("en", "fr")
    assert corpus.has_alignments
    assert corpus.sets["train"][17].id == "train-00017"
    assert corpus.sets["unseen_pairs"][0].id == "unseen_pairs-00000"


def test_no_english_sentence_occurs_twice(pairs: list[SentencePair]) -> None:
    assert len({pair.source for pair in pairs}) == len(pairs)
    assert len({pair.id for pair in pairs}) == len(pairs)


def test_an_english_sentence_has_one_translation() -> None:
    translations: dict[str, str] = {}
    for seed in (0, 1, 2):
        # Short sentences recur most, so here two derivations would meet if they could.
        corpus = grammar.load(**(SMALL | {"train_size": 6_000}), max_length=7, longer_max_length=9, seed=seed)
        for part in corpus.sets.values():
            for pair in part:
                assert translations.setdefault(pair.source, pair.target) == pair.target
    assert len(translations) > 10_000


def test_word_lengths_say_which_set(corpus: Corpus) -> None:
    for name, part in corpus.sets.items():
        lengths = {len(split_words(pair.source)) for pair in part}
        assert lengths <= (set(range(11, 17)) if name == "longer" else set(range(1, 11)))
    assert {len(split_words(pair.source)) for pair in corpus.sets["longer"]} == set(range(11, 17))


def test_iid_set_is_rich_enough_to_tell_variants_apart(corpus: Corpus) -> None:
    part = corpus.sets["test"]
    sources, targets = ([split_words(getattr(pair, side)) for pair in part] for side in ("source", "target"))
    assert len({word for words in sources for word in words}) >= 170
    assert len({word for words in targets for word in words}) >= 280
    assert sum(map(len, sources)) / len(part) >= 7
    assert sum(map(has_crossing_links, part)) / len(part) >= 0.75

    hits = 0
    for pair, source, target in zip(part, sources, targets, strict=True):
        assert pair.alignment is not None
        for j in range(len(target)):
            hits += (round(j * (len(source) - 1) / (len(target) - 1)), j) in pair.alignment.sure
    assert hits / sum(map(len, targets)) <= 0.70


def test_one_link_for_each_target_word_aligns_almost_perfectly(corpus: Corpus) -> None:
    for name in corpus.test_sets:
        links = words = 0
        for pair in corpus.sets[name]:
            assert pair.alignment is not None
            links += len(pair.alignment.sure)
            words += len({target for _, target in pair.alignment.sure})
        assert 1 - 2 * words / (words + links) <= 0.05


def test_every_word_is_linked_inside_the_sentence(pairs: list[SentencePair]) -> None:
    for pair in pairs:
        source, target = split_words(pair.source), split_words(pair.target)
        assert pair.alignment is not None
        assert {i for i, _ in pair.alignment.sure} == set(range(len(source)))
        assert {j for _, j in pair.alignment.sure} == set(range(len(target)))
        assert (len(source) - 1, len(target) - 1) in pair.alignment.sure


def test_texts_split_and_join(pairs: list[SentencePair]) -> None:
    for pair in pairs:
        for text in (pair.source, pair.target):
            assert join_words(split_words(text)) == text
            assert text.endswith(".")
            assert "  " not in text
            assert text.replace("I ", "").islower()


def test_held_out_pairs_are_a_tenth_and_leave_every_word_others() -> None:
    possible, held_out = grammar.possible_pairs(), grammar.held_out_pairs(0)
    assert len(held_out) == round(len(possible) / 10)
    assert held_out < set(possible)
    left = set(possible) - held_out
    assert {adjective for adjective, _ in left} == {adjective for adjective, _ in possible}
    assert {noun for _, noun in left} == {noun for _, noun in possible}
    assert grammar.held_out_pairs(1) != held_out


def test_only_unseen_pairs_has_held_out_pairs(corpus: Corpus) -> None:
    held_out = grammar.held_out_pairs(0)
    for name, part in corpus.sets.items():
        for pair in part:
            words = split_words(pair.source)
            found = held_out.intersection(attributes(words) + predicates(words))
            assert bool(found) == (name == "unseen_pairs"), pair.source


def test_training_shows_the_words_of_held_out_pairs_and_all_other_pairs(corpus: Corpus) -> None:
    seen = Counter[tuple[str, str]]()
    for pair in corpus.sets["train"]:
        words = split_words(pair.source)
        seen.update(attributes(words) + predicates(words))
    assert set(seen) == set(grammar.possible_pairs()) - grammar.held_out_pairs(0)
    for adjective, noun in grammar.held_out_pairs(0):
        assert sum(count for (other, _), count in seen.items() if other == adjective) >= 20
        assert sum(count for (_, other), count in seen.items() if other == noun) >= 20
    held_out_found = {
        found
        for pair in corpus.sets["unseen_pairs"]
        for found in attributes(split_words(pair.source)) + predicates(split_words(pair.source))
    }
    assert len(grammar.held_out_pairs(0) & held_out_found) >= 0.9 * len(grammar.held_out_pairs(0))


def test_only_composition_has_negation_object_clitic_and_past(corpus: Corpus) -> None:
    for name, part in corpus.sets.items():
        for pair in part:
            assert is_composition(split_words(pair.source)) == (name == "composition"), pair.source


def test_training_shows_each_two_of_negation_object_clitic_and_past(corpus: Corpus) -> None:
    composed = {"negation", "object_clitic", "past"}
    for missing in composed:
        both = composed - {missing}
        count = sum(both <= set(pair.tags) and "and" not in pair.source for pair in corpus.sets["train"])
        assert count >= 1_000, both


def test_training_shows_what_makes_sentences_long(corpus: Corpus) -> None:
    short = Counter(tag for pair in corpus.sets["train"] for tag in pair.tags)
    longer = {tag for pair in corpus.sets["longer"] for tag in pair.tags}
    assert longer <= set(short)
    assert min(short[tag] for tag in ("coordination", "prepositional_phrase", "adverb")) >= 1_000
    vocabulary = {word for pair in corpus.sets["train"] for word in split_words(pair.target)}
    for name in corpus.test_sets:
        unknown = {word for pair in corpus.sets[name] for word in split_words(pair.target)} - vocabulary
        assert not unknown


def tags_by_words(pair: SentencePair) -> set[str]:
    """The tags that the words alone betray."""
    words, target = split_words(pair.source), split_words(pair.target)
    subjects = [word for previous, word in zip(["and", *words], words, strict=False) if previous == "and"]
    prepositions = [
        word
        for previous, word in zip(["", *words], words, strict=False)
        if word in ("in", "at", "to", "on", "under", "near", "behind", "with", "for")
        and not (word in ("at", "for") and previous.startswith(("look", "wait")))
    ]
    adjectives = [ADJECTIVES[adjective] for adjective, _ in attributes(words)]
    present = {
        "adjective_after": any(not adjective.precedes for adjective in adjectives),
        "adjective_before": any(adjective.precedes for adjective in adjectives),
        "adverb": not ADVERBS.isdisjoint(words),
        "contraction": not {"au", "aux", "du"}.isdisjoint(target) or "près des" in pair.target,
        "coordination": "and" in words,
        "elision": any(word.endswith("'") for word in target),
        "negation": not {"not", "never"}.isdisjoint(words),
        "object_clitic": has_object_pronoun(words),
        "past": not PAST_FORMS.isdisjoint(words),
        "plural": any(word in PLURALS for word in words),
        "predicate_adjective": not {"am", "is", "are"}.isdisjoint(words),
        "prepositional_phrase": bool(prepositions),
        "pronoun_subject": not {"I", "you", "he", "she", "we", "they"}.isdisjoint(subjects),
    }
    return {tag for tag, is_present in present.items() if is_present}


def test_tags_are_those_of_the_words(pairs: list[SentencePair]) -> None:
    for pair in pairs:
        assert list(pair.tags) == sorted(set(pair.tags))
        assert set(pair.tags) - {"indirect_object", "participle_agreement"} == tags_by_words(pair), pair


def test_same_settings_give_the_same_corpus_and_other_seeds_another() -> None:
    assert grammar.load(**SMALL).hash() == grammar.load(**SMALL).hash()
    assert grammar.load(**SMALL).hash() != grammar.load(**SMALL, seed=1).hash()


def test_corpus_does_not_depend_on_pythons_hash_seed() -> None:
    program = f"from attnframe.data.grammar import load; print(load(**{SMALL!r}).hash())"
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for hash_seed in ("1", "2")
    }
    assert hashes == {grammar.load(**SMALL).hash()}


def test_training_size_leaves_the_other_sets_alone(corpus: Corpus) -> None:
    smaller = grammar.load(train_size=1_700)
    assert smaller.sets["train"] == corpus.sets["train"][:1_700]
    for name in ("val", *corpus.test_sets):
        assert smaller.sets[name] == corpus.sets[name]


def test_description_has_the_settings_and_the_counts(corpus: Corpus) -> None:
    assert corpus.description["train_size"] == 24_000
    assert corpus.description["max_length"] == 10
    assert corpus.description["seed"] == 0
    assert corpus.description["held_out_pairs"] == len(grammar.held_out_pairs(0))


@pytest.mark.parametrize(
    ("settings", "place", "possible"),
    [
        ({"train_size": 0}, "data.train_size=0", "between 1 and"),
        ({"val_size": -3}, "data.val_size=-3", "between 1 and"),
        ({"test_size": 0}, "data.test_size=0", "between 1 and"),
        ({"held_out_size": 0}, "data.held_out_size=0", "between 1 and"),
        ({"train_size": 10**12}, "data.train_size=1000000000000", "between 1 and"),
        ({"max_length": 5}, "data.max_length=5", "6 English tokens or more"),
        ({"max_length": 21}, "data.max_length=21", "20 English tokens or less"),
        ({"longer_max_length": 10}, "data.longer_max_length=10", "more than data.max_length=10"),
    ],
)
def test_nonsensical_settings_are_refused(settings: dict[str, int], place: str, possible: str) -> None:
    with pytest.raises(UserError) as error:
        grammar.load(**settings)
    assert str(error.value).startswith(f"{place}: ")
    assert possible in str(error.value)


def test_a_size_out_of_reach_is_refused_with_what_is_possible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar, "_PATIENCE", 40)
    message = r"^data\.train_size=90000: .* about \d+ different sentences for the set train$"
    with pytest.raises(UserError, match=message):
        grammar.load(train_size=90_000, max_length=6, longer_max_length=7)


@pytest.mark.parametrize("lengths", [(6, 7), (20, 21)])
def test_extreme_lengths_work(lengths: tuple[int, int]) -> None:
    max_length, longer_max_length = lengths
    corpus = grammar.load(**SMALL, max_length=max_length, longer_max_length=longer_max_length)
    assert max(len(split_words(pair.source)) for pair in corpus.sets["train"]) <= max_length
    assert {len(split_words(pair.source)) for pair in corpus.sets["longer"]} == {longer_max_length}
