"""Random sentence trees: which clauses, verbs and phrases go together, drawn from a seeded generator."""

from __future__ import annotations

from random import Random

from attnframe.data import function_words as words
from attnframe.data.content_words import (
    ADJECTIVES,
    DITRANSITIVE,
    FREQUENCY,
    GO,
    INTRANSITIVE,
    MANNER,
    NOW,
    RARITY,
    TODAY,
    TRANSITIVE,
    YESTERDAY,
    adjectives_for,
)
from attnframe.data.draws import Draws
from attnframe.data.phrase_derivation import PhraseDerivation
from attnframe.data.profiles import ORDINARY, Profile
from attnframe.data.syntax import Clause, PrepositionalPhrase, Sentence, Subject
from attnframe.data.word_classes import Adverb, Negation, Pronoun, Verb

_PERSON = frozenset({"person"})
_ANIMAL = frozenset({"animal"})
_OF_PERSONS = frozenset({"person", "animate", "grown", "handsome"})
_ANIMAL_PLACES = ("outdoors", "landmark")
_PASSING = tuple(
    adjective for adjective in ADJECTIVES if adjective.english in ("happy", "sad", "tired", "sick", "dirty", "quiet")
)


class Derivation:
    """Draws sentence trees. The same generator state and profile give the same trees."""

    def __init__(self, rng: Random, profile: Profile = ORDINARY) -> None:
        self._profile = profile
        self._draws = Draws(rng)
        self._phrases = PhraseDerivation(self._draws, profile)

    def sentence(self) -> Sentence:
        """One or two clauses; a noun occurs once where there are enough that fit."""
        self._phrases.begin_sentence()
        if self._draws.chance(self._profile.second_clause):
            return (self._clause(), self._clause())
        return (self._clause(),)

    def _clause(self) -> Clause:
        transitive, ditransitive, intransitive, motion, _ = self._profile.frames
        draw = self._draws.number()
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
        verb = self._draws.pick(TRANSITIVE)
        clause = self._start(verb, animals=bool(verb.animal_objects))
        traits = verb.animal_objects if self._is_animal(clause.subject) else verb.person_objects
        if self._draws.chance(self._profile.clitic):
            persons = bool(traits & {"person", "animate"})
            clause.clitic = self._clitic(clause.subject) if persons else words.THEY
        else:
            with_place = "where" in verb.uses
            clause.objects = self._phrases.objects(traits, negated=clause.negation is not None, with_place=with_place)
        self._circumstances(clause)
        return clause

    def _ditransitive(self) -> Clause:
        verb = self._draws.pick(DITRANSITIVE)
        clause = self._start(verb)
        if self._draws.chance(self._profile.clitic):
            if self._draws.chance(0.7):
                clause.clitic, clause.clitic_is_indirect = self._clitic(clause.subject), True
                clause.objects = self._phrases.objects(verb.person_objects, negated=clause.negation is not None)
                self._circumstances(clause)
                return clause
            clause.clitic = words.THEY
        else:
            clause.objects = self._phrases.objects(verb.person_objects, negated=clause.negation is not None)
        clause.complements = (PrepositionalPhrase(words.TO, self._phrases.person()),)
        return clause

    def _intransitive(self) -> Clause:
        verb = self._draws.pick(INTRANSITIVE)
        clause = self._start(verb, animals=verb.animal_subject)
        if "manner" in verb.uses and self._draws.chance(self._profile.adverb) and not self._is_animal(clause.subject):
            clause.adverb = self._draws.pick(MANNER)
        self._circumstances(clause)
        return clause

    def _motion(self) -> Clause:
        clause = self._start(GO)
        clause.complements = (PrepositionalPhrase(words.TO, self._phrases.venue()),)
        self._add_adverb(clause, GO)
        return clause

    def _copular(self) -> Clause:
        subject: Subject
        if self._draws.chance(self._profile.pronoun_subject):
            subject = self._draws.pick(words.PRONOUNS)
            adjectives = [adjective for adjective in ADJECTIVES if adjective.traits & _OF_PERSONS]
        else:
            phrase = self._phrases.described()
            subject = (phrase,)
            adjectives = [adjective for adjective in adjectives_for(phrase.noun) if adjective.predicative]
        clause = Clause(subject, None, predicate=self._draws.pick(adjectives))
        clause.negation = words.NOT if self._draws.chance(self._profile.negation) else None
        if clause.predicate in _PASSING and self._draws.chance(0.5):
            clause.adverb = self._draws.pick((*FREQUENCY, TODAY, NOW))
        return clause

    def _start(self, verb: Verb, *, animals: bool = False) -> Clause:
        past = self._draws.chance(self._profile.past)
        negation: Negation | None = None
        if self._draws.chance(self._profile.negation):
            negation = words.NEVER if self._draws.chance(0.2) else words.NOT
        subject: Subject
        if self._draws.chance(self._profile.pronoun_subject):
            subject = self._draws.pick(words.PRONOUNS)
        else:
            kinds = _ANIMAL if animals and self._draws.chance(0.4) else _PERSON
            subject = self._phrases.subject(kinds, negated=negation is not None)
        return Clause(subject, verb, past, negation)

    def _is_animal(self, subject: Subject) -> bool:
        return not isinstance(subject, Pronoun) and "animal" in subject[0].noun.traits

    def _clitic(self, subject: Subject) -> Pronoun:
        """A pronoun object that cannot mean the subject itself."""
        speaker = subject.form if isinstance(subject, Pronoun) else None
        first_person = speaker in (0, 2)
        return self._draws.pick(
            [
                pronoun
                for pronoun in words.PRONOUNS
                if not (first_person and pronoun.form in (0, 2)) and not (speaker == 3 and pronoun.form == 3)
            ]
        )

    def _circumstances(self, clause: Clause) -> None:
        """Place, company or whom it is done for, then one adverb."""
        verb = clause.verb
        assert verb is not None
        if self._draws.chance(self._profile.complement):
            by_animal = self._is_animal(clause.subject)
            places = [place for place in verb.places if not by_animal or place in _ANIMAL_PLACES]
            if "for" in verb.uses and clause.objects and self._draws.chance(0.5):
                clause.complements = (PrepositionalPhrase(words.FOR, self._phrases.person()),)
            elif "with" in verb.uses and not by_animal and self._draws.chance(0.35):
                clause.complements = (PrepositionalPhrase(words.WITH, self._phrases.person()),)
            elif places:
                clause.complements = (self._phrases.place(self._draws.pick(places)),)
        self._add_adverb(clause, verb)

    def _add_adverb(self, clause: Clause, verb: Verb) -> None:
        if clause.adverb is not None or clause.negation is words.NEVER or not self._draws.chance(self._profile.adverb):
            return
        options: list[Adverb] = [TODAY]
        if "habit" in verb.uses:
            options += FREQUENCY if clause.negation else (*FREQUENCY, *RARITY)
        options.append(YESTERDAY if clause.past else NOW)
        clause.adverb = self._draws.pick(options)
