"""What a word of the grammar is: nouns, adjectives, verbs and the small words, and how a table row becomes one."""

from __future__ import annotations

from dataclasses import dataclass

Traits = frozenset[str]


@dataclass(frozen=True, slots=True, eq=False)
class Noun:
    """`traits` decide which adjectives, verbs and places go with it."""

    english: str
    english_plural: str
    french: str
    french_plural: str
    feminine: bool
    traits: Traits


@dataclass(frozen=True, slots=True, eq=False)
class Adjective:
    """`before_vowel` is the masculine singular before a vowel; `precedes`: the French adjective stands before its noun;
    `predicative`: it may follow "is"."""

    english: str
    masculine: str
    feminine: str
    masculine_plural: str
    feminine_plural: str
    before_vowel: str
    precedes: bool
    predicative: bool
    traits: Traits


@dataclass(frozen=True, slots=True, eq=False)
class Verb:
    """A verb with the traits of the nouns that go with it.

    `present` holds the French forms for je, il, nous, vous, ils; `person_objects` and `animal_objects` the traits of
    what a person and an animal may do it to; `places` those of where it happens. `uses` says what may be added: `habit`
    (how often), `manner`, `where` (the object is), `with` (company), `for` (somebody).
    """

    english: str
    particle: str
    third_person: str
    past: str
    present: tuple[str, str, str, str, str]
    participle: str
    with_etre: bool
    person_objects: Traits
    animal_objects: Traits
    animal_subject: bool
    places: tuple[str, ...]
    uses: Traits


@dataclass(frozen=True, slots=True, eq=False)
class Pronoun:
    """`form` is the place of its verb form in `Verb.present`; `plural` and `feminine` are those of participles."""

    english: str
    english_object: str
    french: str
    french_direct: str
    french_indirect: str
    form: int
    plural: bool = False
    feminine: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Determiner:
    """French forms by gender and number; an empty form says that the determiner does not occur in that number."""

    english: str
    masculine: str
    feminine: str
    plural: str


@dataclass(frozen=True, slots=True, eq=False)
class Preposition:
    """Both sides may have several words."""

    english: str
    french: str


@dataclass(frozen=True, slots=True, eq=False)
class Adverb:
    """English: before the verb, after it, or last. French: after the finite verb, after the participle, or last."""

    english: str
    french: str
    english_slot: str
    french_slot: str


@dataclass(frozen=True, slots=True, eq=False)
class Negation:
    """`french` is the second half: the first is always "ne"."""

    english: str
    french: str


# What a kind of noun brings along besides its own traits.
KINDS = {
    "person": "animate",
    "animal": "animate",
    "food": "portable",
    "fruit": "food portable",
    "drink": "",
    "text": "portable own",
    "tale": "own",
    "clothing": "portable own coloured",
    "thing": "portable own",
    "furniture": "coloured",
    "vehicle": "coloured own",
    "building": "landmark",
    "place": "",
}


def read_noun(row: str) -> Noun:
    english, french, gender, kind, *traits = row.split()
    singular, _, plural = english.partition("/")
    french, _, french_plural = french.partition("/")
    return Noun(
        singular,
        plural or add_s(singular),
        french,
        french_plural or french_plural_of(french),
        gender == "f",
        frozenset((kind, *KINDS.get(kind, "").split(), *traits)),
    )


def read_adjective(row: str) -> Adjective:
    english, french, position, *traits = row.split()
    masculine, feminine, *before_vowel = french.split("/")
    return Adjective(
        english,
        masculine,
        feminine,
        french_plural_of(masculine),
        french_plural_of(feminine),
        before_vowel[0] if before_vowel else masculine,
        precedes=position != "after",
        predicative=position != "attributive",
        traits=frozenset(traits),
    )


def read_verb(row: str) -> Verb:
    head, present, participle, objects, circumstances = (part.strip() for part in row.split("|"))
    english, past = head.split()
    english, _, particle = english.partition("+")
    person_objects, _, animal_objects = objects.partition(";")
    places, _, uses = circumstances.partition("/")
    je, il, nous, vous, ils = present.split()
    return Verb(
        english,
        particle,
        add_s(english),
        past,
        (je, il, nous, vous, ils),
        participle.rstrip("*"),
        participle.endswith("*"),
        frozenset(person_objects.split()),
        frozenset(animal_objects.split()) - {"-"},
        bool(animal_objects.strip()),
        tuple(places.replace("anywhere", "outdoors indoors venue landmark").split()),
        frozenset(uses.split()),
    )


def add_s(english: str) -> str:
    """The regular English ending -s of plural nouns and of the third person."""
    if english.endswith(("s", "x", "ch", "sh", "o")):
        return english + "es"
    if english.endswith("y") and english[-2] not in "aeiou":
        return english[:-1] + "ies"
    return english + "s"


def french_plural_of(singular: str) -> str:
    """The regular French plural of a noun, an adjective or a participle."""
    if singular.endswith(("s", "x", "z")):
        return singular
    return singular + ("x" if singular.endswith("eau") else "s")
