"""From a sentence tree to a sentence pair: both texts, gold word alignment and tags.

Tags: `adjective_after`, `adjective_before` (where the French adjective stands at its noun), `adverb`, `contraction`
(au, aux, du, des out of preposition and article), `coordination`, `elision` (an apostrophe word such as l' or n'),
`indirect_object` (a noun phrase after "to" or a pronoun, who is given or shown something), `negation`,
`object_clitic` (direct or indirect), `participle_agreement` (a participle with an ending that shows it), `past`,
`plural` (of a noun), `predicate_adjective`, `prepositional_phrase`, `pronoun_subject`.
"""

from __future__ import annotations

from collections.abc import Sequence

from attnframe.data.content_words import DITRANSITIVE
from attnframe.data.english import english
from attnframe.data.french import french, past_participle
from attnframe.data.schema import Alignment, Link, SentencePair
from attnframe.data.syntax import Clause, Sentence, Token, noun_phrases
from attnframe.data.word_classes import Pronoun
from attnframe.data.words import join_words


def realise(sentence: Sentence, id: str) -> SentencePair:
    """The sentence pair of a tree."""
    source, target = english(sentence), french(sentence)
    return SentencePair(id, text(source), text(target), align(source, target), tags(sentence, target))


def text(tokens: Sequence[Token]) -> str:
    """The tokens written as a sentence."""
    return join_words([token.word for token in tokens])


def align(source: Sequence[Token], target: Sequence[Token]) -> Alignment:
    """Two words are linked when they realise a common concept. All links are sure."""
    places: dict[str, list[int]] = {}
    for index, token in enumerate(source):
        for concept in token.concepts:
            places.setdefault(concept, []).append(index)
    links: set[Link] = set()
    for index, token in enumerate(target):
        for concept in token.concepts:
            links.update((place, index) for place in places.get(concept, ()))
    return Alignment(frozenset(links))


def tags(sentence: Sentence, target: Sequence[Token]) -> tuple[str, ...]:
    """The phenomena of a tree and its French words, sorted by name."""
    found = {"coordination"} if len(sentence) > 1 else set()
    for clause in sentence:
        found |= clause_tags(clause)
    for phrase in noun_phrases(sentence):
        found |= {"adjective_before" if adjective.precedes else "adjective_after" for adjective in phrase.adjectives}
        if phrase.plural:
            found.add("plural")
        if phrase.place is not None:
            found.add("prepositional_phrase")
    if any(token.word[-1] == "'" for token in target):
        found.add("elision")
    if any(token.word in ("au", "aux", "du", "des") and len(token.concepts) > 1 for token in target):
        found.add("contraction")
    return tuple(sorted(found))


def clause_tags(clause: Clause) -> set[str]:
    """The phenomena that belong to one clause as a whole, not to its noun phrases."""
    found = set()
    if isinstance(clause.subject, Pronoun):
        found.add("pronoun_subject")
    elif len(clause.subject) > 1:
        found.add("coordination")
    if len(clause.objects) > 1:
        found.add("coordination")
    if clause.negation is not None:
        found.add("negation")
    if clause.adverb is not None:
        found.add("adverb")
    if clause.predicate is not None:
        found.add("predicate_adjective")
    if clause.clitic is not None:
        found.add("object_clitic")
    if clause.complements:
        found.add("prepositional_phrase")
    if clause.verb in DITRANSITIVE:
        found.add("indirect_object")
    if clause.past:
        found.add("past")
        if clause.verb is not None and past_participle(clause) != clause.verb.participle:
            found.add("participle_agreement")
    return found
