"""The English words of a sentence tree."""

from __future__ import annotations

from attnframe.data.syntax import Clause, NounPhrase, PrepositionalPhrase, Sentence, Token, verb_form
from attnframe.data.word_classes import Pronoun


def english(sentence: Sentence) -> list[Token]:
    """The words in order, the full stop included."""
    tokens: list[Token] = []
    for index, clause in enumerate(sentence):
        if index:
            tokens.append(Token("and", (f"clause{index}.and",)))
        _clause(tokens, clause, f"clause{index}.")
    tokens.append(Token(".", ("stop",)))
    return tokens


def _clause(tokens: list[Token], clause: Clause, key: str) -> None:
    _subject(tokens, clause, key)
    form = verb_form(clause.subject)
    tense, verb_key, adverb = key + "tense", key + "verb", clause.adverb
    if clause.verb is None:
        tokens.append(Token(("am", "is", "are", "are", "are")[form], (verb_key,)))
    elif clause.negation is not None and clause.negation.english == "not":
        auxiliary = "did" if clause.past else "does" if form == 1 else "do"
        tokens.append(Token(auxiliary, (tense,)))
    if clause.negation is not None:
        tokens.append(Token(clause.negation.english, (key + "negation",)))
    if adverb is not None and adverb.english_slot == "before_verb":
        tokens.append(Token(adverb.english, (key + "adverb",)))
    if clause.verb is None:
        assert clause.predicate is not None
        tokens.append(Token(clause.predicate.english, (key + "predicate",)))
    else:
        verb = clause.verb
        if clause.negation is not None and clause.negation.english == "not":
            tokens.append(Token(verb.english, (verb_key,)))
        else:
            word = verb.past if clause.past else verb.third_person if form == 1 else verb.english
            tokens.append(Token(word, (verb_key, tense)))
        if verb.particle:
            tokens.append(Token(verb.particle, (verb_key,)))
    if adverb is not None and adverb.english_slot == "after_verb":
        tokens.append(Token(adverb.english, (key + "adverb",)))
    if clause.clitic is not None:
        tokens.append(Token(clause.clitic.english_object, (key + "clitic",)))
    _coordination(tokens, clause.objects, key + "object")
    for index, complement in enumerate(clause.complements):
        _prepositional_phrase(tokens, complement, f"{key}complement{index}")
    if adverb is not None and adverb.english_slot == "last":
        tokens.append(Token(adverb.english, (key + "adverb",)))


def _subject(tokens: list[Token], clause: Clause, key: str) -> None:
    if isinstance(clause.subject, Pronoun):
        tokens.append(Token(clause.subject.english, (key + "subject",)))
    else:
        _coordination(tokens, clause.subject, key + "subject")


def _coordination(tokens: list[Token], phrases: tuple[NounPhrase, ...], key: str) -> None:
    for index, phrase in enumerate(phrases):
        if index:
            tokens.append(Token("and", (f"{key}{index}.and",)))
        _noun_phrase(tokens, phrase, f"{key}{index}.")


def _noun_phrase(tokens: list[Token], phrase: NounPhrase, key: str) -> None:
    noun = phrase.noun.english_plural if phrase.plural else phrase.noun.english
    determiner = phrase.determiner.english
    if determiner == "a" and (phrase.adjectives[0].english if phrase.adjectives else noun)[0] in "aeiou":
        determiner = "an"
    tokens.append(Token(determiner, (key + "determiner",)))
    for adjective in phrase.adjectives:
        tokens.append(Token(adjective.english, (f"{key}{adjective.english}",)))
    tokens.append(Token(noun, (key + "noun",)))
    if phrase.place is not None:
        _prepositional_phrase(tokens, phrase.place, key + "place")


def _prepositional_phrase(tokens: list[Token], phrase: PrepositionalPhrase, key: str) -> None:
    for word in phrase.preposition.english.split():
        tokens.append(Token(word, (key,)))
    _noun_phrase(tokens, phrase.phrase, key + ".")
