"""The French words of a sentence tree: word order, agreement, then elision and contraction."""

from __future__ import annotations

from itertools import pairwise

from attnframe.data.function_words import AVOIR, ETRE
from attnframe.data.syntax import Clause, NounPhrase, PrepositionalPhrase, Sentence, Subject, Token, verb_form
from attnframe.data.word_classes import Adjective, Noun, Pronoun, french_plural_of

_VOWELS = "aàâeéèêiîoôuûœh"
_ELIDED = {"le": "l'", "la": "l'", "je": "j'", "ne": "n'", "me": "m'", "de": "d'"}
_BEFORE_VOWEL = {**_ELIDED, "ce": "cet", "ma": "mon", "sa": "son"}
_CONTRACTED = {("de", "le"): "du", ("de", "les"): "des", ("à", "le"): "au", ("à", "les"): "aux"}


def french(sentence: Sentence) -> list[Token]:
    """The words in order, the full stop included; an elided word keeps its apostrophe."""
    tokens: list[Token] = []
    for index, clause in enumerate(sentence):
        if index:
            tokens.append(Token("et", (f"clause{index}.and",)))
        _clause(tokens, clause, f"clause{index}.")
    tokens.append(Token(".", ("stop",)))
    return contract(elide(tokens))


def elide(tokens: list[Token]) -> list[Token]:
    """Words take the form that they have before a vowel: le ami -> l' ami, ce ami -> cet ami, ma amie -> mon amie."""
    elided = []
    for token, following in pairwise(tokens):
        if following.word[0] in _VOWELS and token.word in _BEFORE_VOWEL:
            token = Token(_BEFORE_VOWEL[token.word], token.concepts)
        elided.append(token)
    return [*elided, *tokens[-1:]]


def contract(tokens: list[Token]) -> list[Token]:
    """Prepositions and articles that become one word, which realises the concepts of both: à le -> au."""
    contracted: list[Token] = []
    for token in tokens:
        word = _CONTRACTED.get((contracted[-1].word, token.word)) if contracted else None
        if word is None:
            contracted.append(token)
        else:
            contracted[-1] = Token(word, contracted[-1].concepts + token.concepts)
    return contracted


def inflect(adjective: Adjective, *, feminine: bool, plural: bool) -> str:
    """The form of an adjective that agrees in gender and number."""
    if plural:
        return adjective.feminine_plural if feminine else adjective.masculine_plural
    return adjective.feminine if feminine else adjective.masculine


def attributive(adjective: Adjective, noun: Noun, *, plural: bool) -> str:
    """The form of an adjective at its noun: un bel arbre, de beaux arbres."""
    if adjective.precedes and not noun.feminine and not plural and noun.french[0] in _VOWELS:
        return adjective.before_vowel
    return inflect(adjective, feminine=noun.feminine, plural=plural)


def agree(participle: str, *, feminine: bool, plural: bool) -> str:
    """The form of a past participle that agrees in gender and number."""
    form = participle + ("e" if feminine else "")
    return french_plural_of(form) if plural else form


def gender_and_number(subject: Subject) -> tuple[bool, bool]:
    """(feminine, plural): noun phrases that "and" joins are feminine only where all of them are."""
    if isinstance(subject, Pronoun):
        return subject.feminine, subject.plural
    return all(phrase.noun.feminine for phrase in subject), len(subject) > 1 or subject[0].plural


def past_participle(clause: Clause) -> str:
    """With être it agrees with the subject, with avoir with a direct object that stands before it."""
    assert clause.verb is not None
    if clause.verb.with_etre:
        feminine, plural = gender_and_number(clause.subject)
        return agree(clause.verb.participle, feminine=feminine, plural=plural)
    if clause.clitic is not None and not clause.clitic_is_indirect:
        return agree(clause.verb.participle, feminine=clause.clitic.feminine, plural=clause.clitic.plural)
    return clause.verb.participle


def _clause(tokens: list[Token], clause: Clause, key: str) -> None:
    if isinstance(clause.subject, Pronoun):
        tokens.append(Token(clause.subject.french, (key + "subject",)))
    else:
        _coordination(tokens, clause.subject, key + "subject")
    if clause.negation is not None:
        tokens.append(Token("ne", (key + "negation",)))
    if clause.clitic is not None:
        clitic = clause.clitic.french_indirect if clause.clitic_is_indirect else clause.clitic.french_direct
        tokens.append(Token(clitic, (key + "clitic",)))
    tokens.append(_finite_verb(clause, key))
    if clause.negation is not None:
        tokens.append(Token(clause.negation.french, (key + "negation",)))
    _adverb(tokens, clause, "after_finite", key)
    if clause.past:
        tokens.append(Token(past_participle(clause), (key + "verb",)))
    _adverb(tokens, clause, "after_participle", key)
    if clause.predicate is not None:
        feminine, plural = gender_and_number(clause.subject)
        tokens.append(Token(inflect(clause.predicate, feminine=feminine, plural=plural), (key + "predicate",)))
    _coordination(tokens, clause.objects, key + "object")
    for index, complement in enumerate(clause.complements):
        _prepositional_phrase(tokens, complement, f"{key}complement{index}")
    _adverb(tokens, clause, "last", key)


def _finite_verb(clause: Clause, key: str) -> Token:
    form = verb_form(clause.subject)
    if clause.verb is None:
        return Token(ETRE[form], (key + "verb",))
    if clause.past:
        return Token((ETRE if clause.verb.with_etre else AVOIR)[form], (key + "tense",))
    return Token(clause.verb.present[form], (key + "verb", key + "tense"))


def _adverb(tokens: list[Token], clause: Clause, slot: str, key: str) -> None:
    if clause.adverb is not None and clause.adverb.french_slot == slot:
        tokens.append(Token(clause.adverb.french, (key + "adverb",)))


def _coordination(tokens: list[Token], phrases: tuple[NounPhrase, ...], key: str) -> None:
    for index, phrase in enumerate(phrases):
        if index:
            tokens.append(Token("et", (f"{key}{index}.and",)))
        _noun_phrase(tokens, phrase, f"{key}{index}.")


def _noun_phrase(tokens: list[Token], phrase: NounPhrase, key: str) -> None:
    noun = phrase.noun
    word = noun.french_plural if phrase.plural else noun.french
    before = [adjective for adjective in phrase.adjectives if adjective.precedes]
    determiner = phrase.determiner
    forms = determiner.plural if phrase.plural else determiner.feminine if noun.feminine else determiner.masculine
    if forms == "des" and before:
        forms = "de"
    for form in forms.split():
        tokens.append(Token(form, (key + "determiner",)))
    for adjective in before:
        tokens.append(Token(attributive(adjective, noun, plural=phrase.plural), (f"{key}{adjective.english}",)))
    tokens.append(Token(word, (key + "noun",)))
    for adjective in phrase.adjectives:
        if not adjective.precedes:
            tokens.append(Token(attributive(adjective, noun, plural=phrase.plural), (f"{key}{adjective.english}",)))
    if phrase.place is not None:
        _prepositional_phrase(tokens, phrase.place, key + "place")


def _prepositional_phrase(tokens: list[Token], phrase: PrepositionalPhrase, key: str) -> None:
    for word in phrase.preposition.french.split():
        tokens.append(Token(word, (key,)))
    _noun_phrase(tokens, phrase.phrase, key + ".")
