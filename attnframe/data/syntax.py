"""Sentences of the grammar as trees that both languages share, and the words that realise them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from attnframe.data.word_classes import Adjective, Adverb, Determiner, Negation, Noun, Preposition, Pronoun, Verb


class Token(NamedTuple):
    """A word with the ids of the concepts that it realises, such as "subject0.noun"."""

    word: str
    concepts: tuple[str, ...]


@dataclass(slots=True)
class NounPhrase:
    """At most one adjective stands before the French noun and one after it."""

    determiner: Determiner
    noun: Noun
    plural: bool = False
    adjectives: tuple[Adjective, ...] = ()
    place: PrepositionalPhrase | None = None


@dataclass(slots=True)
class PrepositionalPhrase:
    preposition: Preposition
    phrase: NounPhrase


Subject = Pronoun | tuple[NounPhrase, ...]
"""One pronoun, or noun phrases that "and" joins."""


@dataclass(slots=True)
class Clause:
    """`verb` is None where "be" links the subject to `predicate`, which is always in the present.

    `clitic` is the pronoun object: the indirect one where `clitic_is_indirect`. `complements` follow the objects.
    """

    subject: Subject
    verb: Verb | None
    past: bool = False
    negation: Negation | None = None
    adverb: Adverb | None = None
    clitic: Pronoun | None = None
    clitic_is_indirect: bool = False
    objects: tuple[NounPhrase, ...] = ()
    predicate: Adjective | None = None
    complements: tuple[PrepositionalPhrase, ...] = ()


Sentence = tuple[Clause, ...]
"""Clauses that "and" joins."""


def verb_form(subject: Subject) -> int:
    """The place of the subject's verb form among je, il, nous, vous, ils."""
    if isinstance(subject, Pronoun):
        return subject.form
    return 4 if len(subject) > 1 or subject[0].plural else 1


def noun_phrases(sentence: Sentence) -> list[NounPhrase]:
    """Every noun phrase of the sentence, also those inside others."""
    found: list[NounPhrase] = []
    for clause in sentence:
        if not isinstance(clause.subject, Pronoun):
            found += clause.subject
        found += clause.objects
        found += [complement.phrase for complement in clause.complements]
    for phrase in found:
        if phrase.place is not None:
            found.append(phrase.place.phrase)
    return found


def adjective_noun_pairs(sentence: Sentence) -> list[tuple[str, str]]:
    """English (adjective, noun) wherever an adjective stands at a noun or is said of it."""
    pairs = [
        (adjective.english, phrase.noun.english) for phrase in noun_phrases(sentence) for adjective in phrase.adjectives
    ]
    for clause in sentence:
        if clause.predicate is not None and not isinstance(clause.subject, Pronoun):
            pairs += [(clause.predicate.english, phrase.noun.english) for phrase in clause.subject]
    return pairs
