"""What translate and explain say of words outside the vocabulary of a run."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping

from attnframe.cli.blocks import readable


def say_unseen(unknown: Iterable[str], spaced: Mapping[str, bool], whose: str = "") -> None:
    """Name on standard error the words that are `unknown`, those apart that are known with other spacing.

    `spaced` are these, each with whether a space is before it (`data.tokenizer.spaced_otherwise`).
    """
    unseen = [readable(word) for word in dict.fromkeys(unknown) if word not in spaced]
    if unseen:
        print(f"words{whose} that this run has never seen: {', '.join(unseen)}", file=sys.stderr)
    if spaced:
        places = {True: "after a space", False: "without a space before it"}
        named = ", ".join(f"{readable(word)} ({places[is_spaced]})" for word, is_spaced in spaced.items())
        print(f"words{whose} that this run has seen, but never written so: {named}", file=sys.stderr)
