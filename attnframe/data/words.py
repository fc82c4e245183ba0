"""Words of a sentence and back: the unit of the `word` tokenizer, of gold alignments and of pattern labels."""

from __future__ import annotations

import re

# A French elided word keeps its apostrophe and stands alone (l' homme); every other word keeps its inner apostrophes
# and hyphens (don't, aujourd'hui, est-ce). What is neither letter nor digit stands alone.
_ELIDED = r"(?:[cdjlmnst]|qu|jusqu|lorsqu|puisqu|quoiqu)['\u2019](?=\w)"
_WORD = re.compile(rf"{_ELIDED}|\w+(?:[-'\u2019]\w+)*['\u2019]?(?!\w)|\w+|[^\w\s]", re.IGNORECASE)

_CLOSING = frozenset(".,;:!?…)]}%»")
_OPENING = frozenset("([{«")

# A token that breaks the spacing rule says so itself, so that joining is exact: GLUED has no space before it
# although the rule would set one, SPACED has one although the rule would not.
GLUED, SPACED = "\uffed", "\u2581"


def split_words(text: str) -> list[str]:
    """Words of `text`; runs of white space count as one space. `join_words` gives the text back.

    "L'homme n'a pas vu le chien." -> ["L'", "homme", "n'", "a", "pas", "vu", "le", "chien", "."]
    """
    words: list[str] = []
    for chunk_index, chunk in enumerate(text.split()):
        for word_index, word in enumerate(_WORD.findall(chunk)):
            space_before = word_index == 0 and chunk_index > 0
            if words and space_before != _space_between(words[-1], word):
                word = (SPACED if space_before else GLUED) + word
            words.append(word)
    return words


def join_words(words: list[str]) -> str:
    """The text that `split_words` would split into `words`."""
    text = ""
    previous = ""
    for word in words:
        if word[:1] in (GLUED, SPACED) and len(word) > 1:
            space, word = word[0] == SPACED, word[1:]
        else:
            space = bool(previous) and _space_between(previous, word)
        text += (" " if space and text else "") + word
        previous = word
    return text


def _space_between(left: str, right: str) -> bool:
    """The rule of thumb: none before closing and after opening punctuation, none after an elided word."""
    left = left[1:] if left[:1] in (GLUED, SPACED) and len(left) > 1 else left
    return not (right in _CLOSING or left in _OPENING or (len(left) > 1 and left[-1] in "'\u2019"))


def without_marker(word: str) -> str:
    """`word` as a person reads it, without the sign that it breaks the spacing rule."""
    return word[1:] if len(word) > 1 and word[0] in (GLUED, SPACED) else word
