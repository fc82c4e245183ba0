"""Random sentence trees: which clauses, phrases and words go together, drawn from a seeded generator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TypeVar

from attnframe.data import function_words as words
from attnframe.data.content_words import (
    ADJECTIVES,
    DITRANSITIVE,
    FREQUENCY,
    GO,
    INTRANSITIVE,
    MANNER,
    NOUNS,
    NOW,
    RARITY,
    TODAY,
    TRANSITIVE,
    YESTERDAY,
    adjectives_for,
    nouns_with,
)
from attnframe.data.syntax import Clause, NounPhrase, PrepositionalPhrase, Sentence, Subject
from attnframe.data.word_classes import Adjective, Adverb, Determiner, Negation, Noun, Pronoun, Traits, Verb

T = TypeVar("T")

_PERSON = frozenset({"person"})
_ANIMATE = frozenset({"person", "animal"})
_OF_PERSONS = frozenset({"person", "animate", "grown", "handsome"})
_SUPPORT = frozenset({"support"})
_SHELTER = frozenset({"shelter"})
_CONTAINER = frozenset({"container"})
_ANIMAL_PLACES = ("outdoors", "landmark")
_LANDMARK_PREPOSITIONS = (words.NEAR, words.BEHIND, words.IN_FRONT_OF)
_SINGULAR = (words.THE, words.THE, words.THE, words.A, words.A, words.THIS)
_PLURAL = (words.THE, words.THE, words.THE, words.SOME, words.SOME, words.THESE, words.MANY, *words.COUNTS)
_DEFINITE = (words.THE, words.THE, words.THE, words.THIS)
_DEFINITE_PLURAL = (words.THE, words.THE, words.THE, words.THESE)


@dataclass(frozen=True)
class Profile:
    """How often (probability, 0 to 1) a sentence has what its grammar allows at that point."""

    second_clause: float = 0.15
    coordination: float = 0.15
    adjective: float = 0.62
    second_adjective: float = 0.15
    noun_place: float = 0.1
    complement: float = 0.3
    adverb: float = 0.35
    past: float = 0.45
    negation: float = 0.43
    clitic: float = 0.45
    pronoun_subject: float = 0.4
    frames: tuple[float, float, float, float, float] = (0.52, 0.19, 0.13, 0.05, 0.11)
    """Weights of clauses with a verb of two places, of three places, of one place, of motion, and with "be"."""


ORDINARY = Profile()
COMPOSITION = Profile(
    second_clause=0.0, past=1.0, negation=1.0, clitic=1.0, pronoun_subject=0.3, frames=(0.8, 0.2, 0.0, 0.0, 0.0)
)
"""Every clause has negation, object clitic and past together."""
LONGER = Profile(
    second_clause=0.35, coordination=0.25, adjective=0.65, second_adjective=0.3, noun_place=0.3, complement=0.6
)
"""What makes a sentence long is more frequent; nothing occurs that ORDINARY lacks."""


class Derivation:
    """Draws sentence trees. The same generator state and profile give the same trees."""

    def __init__(self, rng: Random, profile: Profile = ORDINARY) -> None:
        self._rng = rng
        self._profile = profile
        self._used: list[Noun] = []

    def sentence(self) -> Sentence:
        """One or two clauses; a noun occurs once where there are enough that fit."""
        self._used = []
        if self._chance(self._profile.second_clause):
            return (self._clause(), self._clause())
        return (self._clause(),)

    def _chance(self, probability: float) -> bool:
        return self._rng.random() < probability

    def _pick(self, options: Sequence[T]) -> T:
        return options[int(self._rng.random() * len(options))]

    def _clause(self) -> Clause:
        transitive, ditransitive, intransitive, motion, _ = self._profile.frames
        draw = self._rng.random()
        if draw < transitive:
            return self._transitive()
        if draw < transitive + ditransitive:
            return self._ditransitive()
        if draw < transitive + ditransitive + intransitive:
            return self._intransitive()
        if draw < transitive + ditransitive + intransitive + motion:
            return self._motion()
        return self._copular()

    def _transitive(self) -> Clause:
        verb = self._pick(TRANSITIVE)
        clause = self._start(verb, animals=bool(verb.animal_objects))
        traits = verb.animal_objects if self._is_animal(clause.subject) else verb.person_objects
        if self._chance(self._profile.clitic):
            persons = bool(traits & {"person", "animate"})
            clause.clitic = self._clitic(clause.subject) if persons else words.THEY
        else:
            clause.objects = self._objects(clause, traits, with_place="where" in verb.uses)
        self._circumstances(clause)
        return clause

    def _ditransitive(self) -> Clause:
        verb = self._pick(DITRANSITIVE)
        clause = self._start(verb)
        if self._chance(self._profile.clitic):
            if self._chance(0.7):
                clause.clitic, clause.clitic_is_indirect = self._clitic(clause.subject), True
                clause.objects = self._objects(clause, verb.person_objects)
                self._circumstances(clause)
                return clause
            clause.clitic = words.THEY
        else:
            clause.objects = self._objects(clause, verb.person_objects)
        recipient = self._definite(self._noun(_PERSON), with_place=False)
        clause.complements = (PrepositionalPhrase(words.TO, recipient),)
        return clause

    def _intransitive(self) -> Clause:
        verb = self._pick(INTRANSITIVE)
        clause = self._start(verb, animals=verb.animal_subject)
        if "manner" in verb.uses and self._chance(self._profile.adverb) and not self._is_animal(clause.subject):
            clause.adverb = self._pick(MANNER)
        self._circumstances(clause)
        return clause

    def _motion(self) -> Clause:
        clause = self._start(GO)
        goal = self._definite(self._noun(frozenset({"venue"})), with_place=False, plural=False)
        clause.complements = (PrepositionalPhrase(words.TO, goal),)
        self._add_adverb(clause, GO)
        return clause

    def _copular(self) -> Clause:
        subject: Subject
        if self._chance(self._profile.pronoun_subject):
            subject = self._pick(words.PRONOUNS)
            adjectives = [adjective for adjective in ADJECTIVES if adjective.traits & _OF_PERSONS]
        else:
            noun = self._pick(_DESCRIBED)
            self._used.append(noun)
            subject = (self._definite(noun, with_place=False, with_adjective=False),)
            adjectives = [adjective for adjective in adjectives_for(noun) if adjective.predicative]
        clause = Clause(subject, None, predicate=self._pick(adjectives))
        clause.negation = words.NOT if self._chance(self._profile.negation) else None
        if clause.predicate in _PASSING and self._chance(0.5):
            clause.adverb = self._pick((*FREQUENCY, TODAY, NOW))
        return clause

    def _start(self, verb: Verb, *, animals: bool = False) -> Clause:
        past = self._chance(self._profile.past)
        negation: Negation | None = None
        if self._chance(self._profile.negation):
            negation = words.NEVER if self._chance(0.2) else words.NOT
        subject: Subject
        if self._chance(self._profile.pronoun_subject):
            subject = self._pick(words.PRONOUNS)
        else:
            kinds = frozenset({"animal"}) if animals and self._chance(0.4) else _PERSON
            subject = self._joined(kinds, negated=negation is not None)
        return Clause(subject, verb, past, negation)

    def _is_animal(self, subject: Subject) -> bool:
        return not isinstance(subject, Pronoun) and "animal" in subject[0].noun.traits

    def _clitic(self, subject: Subject) -> Pronoun:
        """A pronoun object that cannot mean the subject itself."""
        speaker = subject.form if isinstance(subject, Pronoun) else None
        first_person = speaker in (0, 2)
        return self._pick(
            [
                pronoun
                for pronoun in words.PRONOUNS
                if not (first_person and pronoun.form in (0, 2)) and not (speaker == 3 and pronoun.form == 3)
            ]
        )

    def _objects(self, clause: Clause, traits: Traits, *, with_place: bool = False) -> tuple[NounPhrase, ...]:
        if clause.negation is None:
            return self._joined(traits, negated=False, with_place=with_place)
        noun = self._noun(traits)
        if self._chance(0.4):
            plural = self._chance(0.5)
            return (self._phrase(noun, words.ANY if plural else words.NEGATED_A, plural=plural, with_place=with_place),)
        return (self._definite(noun, with_place=with_place),)

    def _joined(self, traits: Traits, *, negated: bool, with_place: bool = True) -> tuple[NounPhrase, ...]:
        first = self._free(self._noun(traits), negated=negated, with_place=with_place)
        if first.place is None and self._chance(self._profile.coordination):
            return (first, self._free(self._noun(traits), negated=negated, with_place=with_place))
        return (first,)

    def _circumstances(self, clause: Clause) -> None:
        """Place, company or whom it is done for, then one adverb."""
        verb = clause.verb
        assert verb is not None
        if self._chance(self._profile.complement):
            by_animal = self._is_animal(clause.subject)
            places = [place for place in verb.places if not by_animal or place in _ANIMAL_PLACES]
            if "for" in verb.uses and clause.objects and self._chance(0.5):
                clause.complements = (PrepositionalPhrase(words.FOR, self._companion()),)
            elif "with" in verb.uses and not by_animal and self._chance(0.35):
                clause.complements = (PrepositionalPhrase(words.WITH, self._companion()),)
            elif places:
                clause.complements = (self._place(self._pick(places)),)
        self._add_adverb(clause, verb)

    def _add_adverb(self, clause: Clause, verb: Verb) -> None:
        if clause.adverb is not None or clause.negation is words.NEVER or not self._chance(self._profile.adverb):
            return
        options: list[Adverb] = [TODAY]
        if "habit" in verb.uses:
            options += FREQUENCY if clause.negation else (*FREQUENCY, *RARITY)
        options.append(YESTERDAY if clause.past else NOW)
        clause.adverb = self._pick(options)

    def _place(self, kind: str) -> PrepositionalPhrase:
        noun = self._noun(frozenset({kind}))
        if "at" in noun.traits and kind != "landmark":
            return PrepositionalPhrase(words.AT, self._definite(noun, with_place=False, plural=False))
        preposition = self._pick(_LANDMARK_PREPOSITIONS) if kind == "landmark" else words.IN
        if self._chance(0.25):
            return PrepositionalPhrase(preposition, self._phrase(noun, words.A, with_place=False))
        plural = kind == "landmark" and self._chance(0.2)
        return PrepositionalPhrase(preposition, self._definite(noun, with_place=False, plural=plural))

    def _where(self, noun: Noun) -> PrepositionalPhrase:
        """Where the thing, the building or the creature is."""
        if "portable" in noun.traits:
            preposition, traits = self._pick(_RESTING_PLACES)
            return PrepositionalPhrase(preposition, self._definite(self._noun(traits), with_place=False, plural=False))
        return self._place("outdoors" if noun.traits & _ANIMATE and self._chance(0.4) else "landmark")

    def _companion(self) -> NounPhrase:
        return self._definite(self._noun(_PERSON), with_place=False)

    def _noun(self, traits: Traits) -> Noun:
        options = nouns_with(traits)
        noun = self._pick(options)
        if noun in self._used:
            noun = self._pick([other for other in options if other not in self._used] or options)
        self._used.append(noun)
        return noun

    def _is_owned(self, noun: Noun) -> bool:
        return ("own" in noun.traits and self._chance(0.3)) or ("kin" in noun.traits and self._chance(0.9))

    def _free(self, noun: Noun, *, negated: bool, with_place: bool) -> NounPhrase:
        """Any determiner; under a negation none whose scope would be in doubt."""
        plural = self._chance(0.35)
        if self._is_owned(noun):
            determiner = self._pick(words.POSSESSIVES)
        elif negated:
            determiner = self._pick(_DEFINITE_PLURAL if plural else _DEFINITE)
        elif not plural and self._chance(0.06):
            determiner = words.EVERY
        else:
            determiner = self._pick(_PLURAL if plural else _SINGULAR)
        return self._phrase(noun, determiner, plural=plural, with_place=with_place)

    def _definite(
        self, noun: Noun, *, with_place: bool = True, with_adjective: bool = True, plural: bool | None = None
    ) -> NounPhrase:
        plural = self._chance(0.3) if plural is None else plural
        determiner = self._pick(_DEFINITE_PLURAL if plural else _DEFINITE)
        if self._is_owned(noun):
            determiner = self._pick(words.POSSESSIVES)
        return self._phrase(noun, determiner, plural=plural, with_place=with_place, with_adjective=with_adjective)

    def _phrase(
        self,
        noun: Noun,
        determiner: Determiner,
        *,
        plural: bool = False,
        with_place: bool = True,
        with_adjective: bool = True,
    ) -> NounPhrase:
        phrase = NounPhrase(determiner, noun, plural)
        if with_adjective and self._chance(self._profile.adjective):
            phrase.adjectives = self._adjectives(noun)
        if with_place and "person" not in noun.traits and self._chance(self._profile.noun_place):
            phrase.place = self._where(noun)
        return phrase

    def _adjectives(self, noun: Noun) -> tuple[Adjective, ...]:
        before, after = _adjectives_by_position(noun)
        if before and after and self._chance(self._profile.second_adjective):
            return (self._pick(before), self._pick(after))
        return (self._pick(after if after and (not before or self._chance(0.6)) else before),)


@cache
def _adjectives_by_position(noun: Noun) -> tuple[tuple[Adjective, ...], tuple[Adjective, ...]]:
    adjectives = adjectives_for(noun)
    before = tuple(adjective for adjective in adjectives if adjective.precedes)
    return before, tuple(adjective for adjective in adjectives if not adjective.precedes)


_DESCRIBED = tuple(noun for noun in NOUNS if sum(adjective.predicative for adjective in adjectives_for(noun)) > 1)
_PASSING = tuple(
    adjective for adjective in ADJECTIVES if adjective.english in ("happy", "sad", "tired", "sick", "dirty", "quiet")
)
_RESTING_PLACES = (
    (words.ON, _SUPPORT),
    (words.ON, _SUPPORT),
    (words.UNDER, _SHELTER),
    (words.IN, _CONTAINER),
)
