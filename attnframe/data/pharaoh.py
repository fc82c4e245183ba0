"""Word links in Pharaoh format: "0-0 1-2 2?3" links white-space tokens, source first, counted from 0."""

from __future__ import annotations

import re

from attnframe.data.schema import Alignment, Link
from attnframe.data.words import split_words

# Six digits are more tokens than a line can have, and few enough to be a number without further thought.
_LINK = re.compile(r"([0-9]{1,6})([-?])([0-9]{1,6})")
_SHOWN = 40


def read_alignment(links: str, source: str, target: str) -> Alignment:
    """The word alignment that `links` says for a pair whose tokens are separated by white space.

    `i-j` is a sure link and `i?j` a possible one. A token may be several words of `split_words`: each word of the one
    token is then linked with each word of the other. Raises ValueError, with a clause that says which link is wrong,
    for what is no link and for a link to a token that is not there.
    """
    sides = _word_indices(source), _word_indices(target)
    sure: set[Link] = set()
    possible: set[Link] = set()
    for link in links.split():
        match = _LINK.fullmatch(link)
        if match is None:
            shown = link if len(link) <= _SHOWN else link[:_SHOWN] + "..."
            raise ValueError(f"{shown!r} is no link in Pharaoh format such as 0-0 or, possible only, 0?0")
        src_token, tgt_token = int(match[1]), int(match[3])
        if src_token >= len(sides[0]) or tgt_token >= len(sides[1]):
            raise ValueError(
                f"the link {link!r} points outside a pair of {len(sides[0])} source and {len(sides[1])} target tokens "
                f"(they count from 0)"
            )
        words = {(i, j) for i in sides[0][src_token] for j in sides[1][tgt_token]}
        (sure if match[2] == "-" else possible).update(words)
    return Alignment(frozenset(sure), frozenset(possible))


def _word_indices(text: str) -> list[range]:
    """For each white-space token the indices of its words."""
    indices: list[range] = []
    for token in text.split():
        first = indices[-1].stop if indices else 0
        indices.append(range(first, first + len(split_words(token))))
    return indices
