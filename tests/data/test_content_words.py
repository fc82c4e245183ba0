from __future__ import annotations

from attnframe.data.content_words import ADJECTIVES, NOUNS, VERBS


def test_there_are_as_many_as_promised() -> None:
    assert len(NOUNS) >= 35
    assert {noun.feminine for noun in NOUNS if noun.french.startswith("h")} == {True, False}
    assert {noun.feminine for noun in NOUNS if noun.french[0] in "aeéiîoœ"} == {True, False}
    assert len(ADJECTIVES) >= 20
    assert len(VERBS) >= 16


def test_no_english_form_has_two_readings() -> None:
    present = {form for verb in VERBS for form in (verb.english, verb.third_person)}
    past = {"did", *(verb.past for verb in VERBS)}
    nouns = {form for noun in NOUNS for form in (noun.english, noun.english_plural)}
    adjectives = {adjective.english for adjective in ADJECTIVES}
    assert present.isdisjoint(past)
    assert len(nouns) == 2 * len(NOUNS)
    assert nouns.isdisjoint(adjectives)
    assert (nouns | adjectives).isdisjoint(present | past)
    assert len(adjectives) == len(ADJECTIVES)
    names = [(verb.english, verb.particle) for verb in VERBS]
    assert len(set(names)) == len(names)
