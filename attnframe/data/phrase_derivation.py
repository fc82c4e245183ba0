"""Random noun phrases and prepositional phrases: which determiners, nouns and adjectives go together."""

from __future__ import annotations

from functools import cache

from attnframe.data import function_words as words
from attnframe.data.content_words import NOUNS, adjectives_for, nouns_with
from attnframe.data.draws import Draws
from attnframe.data.profiles import Profile
from attnframe.data.syntax import NounPhrase, PrepositionalPhrase
from attnframe.data.word_classes import Adjective, Determiner, Noun, Traits

_PERSON = frozenset({"person"})
_VENUE = frozenset({"venue"})
_ANIMATE = frozenset({"person", "animal"})
_RESTING_PLACES = (
    (words.ON, frozenset({"support"})),
    (words.ON, frozenset({"support"})),
    (words.UNDER, frozenset({"shelter"})),
    (words.IN, frozenset({"container"})),
)
_LANDMARK_PREPOSITIONS = (words.NEAR, words.BEHIND, words.IN_FRONT_OF)
_SINGULAR = (words.THE, words.THE, words.THE, words.A, words.A, words.THIS)
_PLURAL = (words.THE, words.THE, words.THE, words.SOME, words.SOME, words.THESE, words.MANY, *words.COUNTS)
_DEFINITE = (words.THE, words.THE, words.THE, words.THIS)
_DEFINITE_PLURAL = (words.THE, words.THE, words.THE, words.THESE)
_DESCRIBED = tuple(noun for noun in NOUNS if sum(adjective.predicative for adjective in adjectives_for(noun)) > 1)


class PhraseDerivation:
    """Draws the phrases of a sentence; a noun occurs once in it where there are enough that fit."""

    def __init__(self, draws: Draws, profile: Profile) -> None:
        self._draws = draws
        self._profile = profile
        self._used: list[Noun] = []

    def begin_sentence(self) -> None:
        """From here on every noun may occur again."""
        self._used = []

    def subject(self, traits: Traits, *, negated: bool) -> tuple[NounPhrase, ...]:
        """One or two phrases with nouns that have one of the traits; `negated` says that the verb is."""
        return self._joined(traits, negated=negated, with_place=True)

    def objects(self, traits: Traits, *, negated: bool, with_place: bool = False) -> tuple[NounPhrase, ...]:
        """The same after the verb. `with_place`: it may be said where they are."""
        if not negated:
            return self._joined(traits, negated=False, with_place=with_place)
        noun = self._noun(traits)
        if self._draws.chance(0.4):
            plural = self._draws.chance(0.5)
            return (self._phrase(noun, words.ANY if plural else words.NEGATED_A, plural=plural, with_place=with_place),)
        return (self._definite(noun, with_place=with_place),)

    def person(self) -> NounPhrase:
        """A definite one, whoever else is in the sentence."""
        return self._definite(self._noun(_PERSON), with_place=False)

    def venue(self) -> NounPhrase:
        """A definite one, where somebody goes."""
        return self._definite(self._noun(_VENUE), with_place=False, plural=False)

    def described(self) -> NounPhrase:
        """A definite one without adjective, of which more than one adjective may be said."""
        noun = self._draws.pick(_DESCRIBED)
        self._used.append(noun)
        return self._definite(noun, with_place=False, with_adjective=False)

    def place(self, kind: str) -> PrepositionalPhrase:
        """At, in or near a noun with the trait `kind`."""
        noun = self._noun(frozenset({kind}))
        if "at" in noun.traits and kind != "landmark":
            return PrepositionalPhrase(words.AT, self._definite(noun, with_place=False, plural=False))
        preposition = self._draws.pick(_LANDMARK_PREPOSITIONS) if kind == "landmark" else words.IN
        if self._draws.chance(0.25):
            return PrepositionalPhrase(preposition, self._phrase(noun, words.A, with_place=False))
        plural = kind == "landmark" and self._draws.chance(0.2)
        return PrepositionalPhrase(preposition, self._definite(noun, with_place=False, plural=plural))

    def _joined(self, traits: Traits, *, negated: bool, with_place: bool) -> tuple[NounPhrase, ...]:
        first = self._free(self._noun(traits), negated=negated, with_place=with_place)
        if first.place is None and self._draws.chance(self._profile.coordination):
            return (first, self._free(self._noun(traits), negated=negated, with_place=with_place))
        return (first,)

    def _where(self, noun: Noun) -> PrepositionalPhrase:
        """Where the thing, the building or the creature is."""
        if "portable" in noun.traits:
            preposition, traits = self._draws.pick(_RESTING_PLACES)
            return PrepositionalPhrase(preposition, self._definite(self._noun(traits), with_place=False, plural=False))
        return self.place("outdoors" if noun.traits & _ANIMATE and self._draws.chance(0.4) else "landmark")

    def _noun(self, traits: Traits) -> Noun:
        options = nouns_with(traits)
        noun = self._draws.pick(options)
        if noun in self._used:
            noun = self._draws.pick([other for other in options if other not in self._used] or options)
        self._used.append(noun)
        return noun

    def _is_owned(self, noun: Noun) -> bool:
        return ("own" in noun.traits and self._draws.chance(0.3)) or ("kin" in noun.traits and self._draws.chance(0.9))

    def _free(self, noun: Noun, *, negated: bool, with_place: bool) -> NounPhrase:
        """Any determiner; under a negation none whose scope would be in doubt."""
        plural = self._draws.chance(0.35)
        if self._is_owned(noun):
            determiner = self._draws.pick(words.POSSESSIVES)
        elif negated:
            determiner = self._draws.pick(_DEFINITE_PLURAL if plural else _DEFINITE)
        elif not plural and self._draws.chance(0.06):
            determiner = words.EVERY
        else:
            determiner = self._draws.pick(_PLURAL if plural else _SINGULAR)
        return self._phrase(noun, determiner, plural=plural, with_place=with_place)

    def _definite(
        self, noun: Noun, *, with_place: bool = True, with_adjective: bool = True, plural: bool | None = None
    ) -> NounPhrase:
        plural = self._draws.chance(0.3) if plural is None else plural
        determiner = self._draws.pick(_DEFINITE_PLURAL if plural else _DEFINITE)
        if self._is_owned(noun):
            determiner = self._draws.pick(words.POSSESSIVES)
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
        if with_adjective and self._draws.chance(self._profile.adjective):
            phrase.adjectives = self._adjectives(noun)
        if with_place and "person" not in noun.traits and self._draws.chance(self._profile.noun_place):
            phrase.place = self._where(noun)
        return phrase

    def _adjectives(self, noun: Noun) -> tuple[Adjective, ...]:
        before, after = _adjectives_by_position(noun)
        if before and after and self._draws.chance(self._profile.second_adjective):
            return (self._draws.pick(before), self._draws.pick(after))
        return (self._draws.pick(after if after and (not before or self._draws.chance(0.6)) else before),)


@cache
def _adjectives_by_position(noun: Noun) -> tuple[tuple[Adjective, ...], tuple[Adjective, ...]]:
    adjectives = adjectives_for(noun)
    before = tuple(adjective for adjective in adjectives if adjective.precedes)
    return before, tuple(adjective for adjective in adjectives if not adjective.precedes)
