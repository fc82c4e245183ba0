"""The function words of the grammar: English words with their French translations.

What English leaves open is fixed: "I", "you" and "they" are masculine, "you" is "vous" to one person.
"""

from __future__ import annotations

from attnframe.data.word_classes import Determiner, Negation, Preposition, Pronoun

ETRE = ("suis", "est", "sommes", "êtes", "sont")
AVOIR = ("ai", "a", "avons", "avez", "ont")

PRONOUNS = (
    Pronoun("I", "me", "je", "me", "me", form=0),
    Pronoun("you", "you", "vous", "vous", "vous", form=3),
    Pronoun("he", "him", "il", "le", "lui", form=1),
    Pronoun("she", "her", "elle", "la", "lui", form=1, feminine=True),
    Pronoun("we", "us", "nous", "nous", "nous", form=2, plural=True),
    Pronoun("they", "them", "ils", "les", "leur", form=4, plural=True),
)
THEY = PRONOUNS[-1]

THE = Determiner("the", "le", "la", "les")
A = Determiner("a", "un", "une", "")
SOME = Determiner("some", "", "", "des")
THIS = Determiner("this", "ce", "cette", "")
THESE = Determiner("these", "", "", "ces")
EVERY = Determiner("every", "chaque", "chaque", "")
MANY = Determiner("many", "", "", "beaucoup de")
COUNTS = (
    Determiner("two", "", "", "deux"),
    Determiner("three", "", "", "trois"),
    Determiner("four", "", "", "quatre"),
    Determiner("several", "", "", "plusieurs"),
)
POSSESSIVES = (
    Determiner("my", "mon", "ma", "mes"),
    Determiner("your", "votre", "votre", "vos"),
    Determiner("his", "son", "sa", "ses"),
    Determiner("her", "son", "sa", "ses"),
    Determiner("our", "notre", "notre", "nos"),
    Determiner("their", "leur", "leur", "leurs"),
)
# The object of a negated verb: "je ne mange pas de pomme", "pas de pommes".
NEGATED_A = Determiner("a", "de", "de", "")
ANY = Determiner("any", "", "", "de")

IN = Preposition("in", "dans")
AT = Preposition("at", "à")
TO = Preposition("to", "à")
ON = Preposition("on", "sur")
UNDER = Preposition("under", "sous")
NEAR = Preposition("near", "près de")
BEHIND = Preposition("behind", "derrière")
IN_FRONT_OF = Preposition("in front of", "devant")
WITH = Preposition("with", "avec")
FOR = Preposition("for", "pour")

NOT = Negation("not", "pas")
NEVER = Negation("never", "jamais")
