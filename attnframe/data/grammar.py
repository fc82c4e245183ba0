"""The embedded default data: English sentences with French translations and gold word alignments, from a seed.

Each sentence is drawn as one tree (`derivation`), which both languages realise (`english`, `french`). Each word carries
the ids of the concepts that it realises; two words are linked when their ids meet.

Sets. `train`, `val` and `test` have one distribution; a hash of the English sentence says to which of the three it may
go, so a larger training set never changes the test sets. Three further sets test what training leaves out:

- `unseen_pairs`: at least one adjective-noun pair out of the 10 % that are held out; each word is known from others.
- `composition`: negation, object clitic and past in one clause; training has each two of them, never all three.
- `longer`: more than `max_length` English tokens, made of what short sentences have too.

`realisation` documents the tags. A sentence that joins negation, object clitic and past over two clauses is in no set.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from random import Random

from attnframe.data.content_words import ADJECTIVES, NOUNS, VERBS, adjectives_for
from attnframe.data.derivation import Derivation
from attnframe.data.english import english
from attnframe.data.french import attributive
from attnframe.data.profiles import COMPOSITION, LONGER, ORDINARY, Profile
from attnframe.data.realisation import realise
from attnframe.data.schema import Corpus, SentencePair
from attnframe.data.syntax import Clause, Sentence, adjective_noun_pairs
from attnframe.data.word_classes import Adjective, Noun
from attnframe.errors import UserError

Pairs = frozenset[tuple[str, str]]
Route = Callable[[Sentence, str], str | None]
Sets = dict[str, tuple[SentencePair, ...]]

_HELD_OUT_SHARE = 0.1
SHORTEST_MAX_LENGTH = 6
LONGEST_MAX_LENGTH = 20
LARGEST_SET = 1_000_000
# Draws without a new sentence after which a set counts as exhausted.
_PATIENCE = 20_000
# Of the 256 values of a hash byte, those below the first bound go to test and those below the second to val: about the
# shares of the default sizes, so that the three sets fill up together.
_TEST_BOUND, _VAL_BOUND = 19, 29


def load(
    *,
    train_size: int = 24_000,
    val_size: int = 1_000,
    test_size: int = 2_000,
    held_out_size: int = 1_000,
    seed: int = 0,
    max_length: int = 10,
    longer_max_length: int = 16,
) -> Corpus:
    """The corpus with the sets `train`, `val`, `test`, `unseen_pairs`, `composition` and `longer`.

    Sizes are in sentence pairs, `held_out_size` for each of the last three sets; lengths are in English tokens, the
    full stop included. `seed` alone decides what the sentences are. Raises `UserError` for a size or length that
    makes no sense or that the grammar cannot reach.
    """
    settings = {
        "train_size": train_size,
        "val_size": val_size,
        "test_size": test_size,
        "held_out_size": held_out_size,
    }
    _check(settings, max_length, longer_max_length)
    held_out = held_out_pairs(seed)

    def known(sentence: Sentence) -> bool:
        return held_out.isdisjoint(adjective_noun_pairs(sentence))

    def ordinary(sentence: Sentence, source: str) -> str | None:
        if is_composition(sentence):
            return None
        return _split(source, seed) if known(sentence) else "unseen_pairs"

    def composition(sentence: Sentence, source: str) -> str | None:
        return "composition" if known(sentence) and any(map(_clause_is_composition, sentence)) else None

    def longer(sentence: Sentence, source: str) -> str | None:
        return "longer" if known(sentence) and not is_composition(sentence) else None

    def derivation(profile: Profile, stream: str) -> Derivation:
        return Derivation(Random(f"{seed}/{stream}"), profile)

    short, long = range(1, max_length + 1), range(max_length + 1, longer_max_length + 1)
    sizes = {"train": train_size, "val": val_size, "test": test_size, "unseen_pairs": held_out_size}
    sets = _collect(sizes, derivation(ORDINARY, "ordinary"), short, ordinary)
    sets |= _collect({"composition": held_out_size}, derivation(COMPOSITION, "composition"), short, composition)
    sets |= _collect({"longer": held_out_size}, derivation(LONGER, "longer"), long, longer)
    return Corpus(
        sets=sets,
        languages=("en", "fr"),
        name="grammar",
        description={
            **settings,
            "seed": seed,
            "max_length": max_length,
            "longer_max_length": longer_max_length,
            "nouns": len(NOUNS),
            "adjectives": len(ADJECTIVES),
            "verbs": len(VERBS),
            "adjective_noun_pairs": len(possible_pairs()),
            "held_out_pairs": len(held_out),
        },
    )


def possible_pairs() -> tuple[tuple[str, str], ...]:
    """Every English (adjective, noun) that the grammar can produce, in the order of the tables."""
    return tuple((adjective.english, noun.english) for noun in NOUNS for adjective in adjectives_for(noun))


def held_out_pairs(seed: int) -> Pairs:
    """The tenth of the adjective-noun pairs that training never shows.

    Each noun and each French form of an adjective (vieux, vieil, vieille) keeps at least two other partners.
    """
    pairs = [(adjective, noun) for noun in NOUNS for adjective in adjectives_for(noun)]
    wanted = round(_HELD_OUT_SHARE * len(pairs))
    partners = Counter(word for pair in pairs for word in _words_to_learn(*pair))
    Random(f"{seed}/held-out pairs").shuffle(pairs)
    held_out: set[tuple[str, str]] = set()
    for adjective, noun in pairs:
        words = _words_to_learn(adjective, noun)
        if len(held_out) < wanted and all(partners[word] > 2 for word in words):
            held_out.add((adjective.english, noun.english))
            partners.subtract(words)
    return frozenset(held_out)


def _words_to_learn(adjective: Adjective, noun: Noun) -> tuple[tuple[str, str], ...]:
    return ("noun", noun.english), (adjective.english, attributive(adjective, noun, plural=False))


def is_composition(sentence: Sentence) -> bool:
    """Whether negation, object clitic and past meet anywhere in the sentence."""
    return (
        any(clause.negation is not None for clause in sentence)
        and any(clause.clitic is not None for clause in sentence)
        and any(clause.past for clause in sentence)
    )


def _split(source: str, seed: int) -> str:
    byte = hashlib.blake2b(f"{seed}/{source}".encode(), digest_size=1).digest()[0]
    return "test" if byte < _TEST_BOUND else "val" if byte < _VAL_BOUND else "train"


def _clause_is_composition(clause: Clause) -> bool:
    return clause.negation is not None and clause.clitic is not None and clause.past


def _collect(wanted: dict[str, int], derivation: Derivation, lengths: range, route: Route) -> Sets:
    """Sets of the wanted sizes out of one stream of sentences; `route` names the set of a sentence, if it has one."""
    sets: dict[str, list[SentencePair]] = {name: [] for name in wanted}
    seen: set[str] = set()
    missing = sum(wanted.values())
    idle = 0
    while missing:
        sentence = derivation.sentence()
        tokens = english(sentence)
        idle += 1
        if len(tokens) in lengths:
            source = " ".join(token.word for token in tokens)
            name = route(sentence, source)
            if name is not None and len(sets[name]) < wanted[name] and source not in seen:
                seen.add(source)
                sets[name].append(realise(sentence, f"{name}-{len(sets[name]):05d}"))
                missing -= 1
                idle = 0
        if idle > _PATIENCE:
            raise _unreachable({name: len(pairs) for name, pairs in sets.items()}, wanted)
    return {name: tuple(pairs) for name, pairs in sets.items()}


def _unreachable(reached: dict[str, int], wanted: dict[str, int]) -> UserError:
    name = next(name for name in wanted if reached[name] < wanted[name])
    setting = f"{name}_size" if name in ("train", "val", "test") else "held_out_size"
    return UserError(
        f"data.{setting}={wanted[name]}: within these lengths the grammar gives about {reached[name]} different "
        f"sentences for the set {name}"
    )


def _check(sizes: dict[str, int], max_length: int, longer_max_length: int) -> None:
    for name, size in sizes.items():
        if not 1 <= size <= LARGEST_SET:
            raise UserError(f"data.{name}={size}: a set has between 1 and {LARGEST_SET} sentence pairs")
    if max_length < SHORTEST_MAX_LENGTH:
        raise UserError(f"data.max_length={max_length}: it must be {SHORTEST_MAX_LENGTH} English tokens or more")
    if max_length > LONGEST_MAX_LENGTH:
        raise UserError(f"data.max_length={max_length}: it must be {LONGEST_MAX_LENGTH} English tokens or less")
    if longer_max_length <= max_length:
        raise UserError(
            f"data.longer_max_length={longer_max_length}: it must be more than data.max_length={max_length}"
        )
